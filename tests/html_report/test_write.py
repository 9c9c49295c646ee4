"""The whole page, as a user writes it: what it shows, and that it is HTML which needs nothing else."""

import json
import re
from html.parser import HTMLParser

import forge
import numpy as np
import pytest
import small_runs
from sklearn.metrics import confusion_matrix

from nfnets import Weights
from nfnets.data.decode import decode_eval
from nfnets.data.digits import DigitsSource
from nfnets.data.preprocessing import Preprocessing
from nfnets.data.tensorflow import tf
from nfnets.errors import InputError
from nfnets.html_report import html
from nfnets.html_report.charts import curves
from nfnets.html_report.write import write_page
from nfnets.inference.predict import Predictor
from nfnets.run.logged import read_runs
from nfnets.weights.about import About

LINES = [{'step': 20, 'train/loss': 2.0, 'train/grad_norm/stem': 0.5}, {'step': 40, 'eval_ema/top_1': 0.25}]
STEP = {'command': 'step', 'variant': 'F0', 'batch': 32, 'image_size': 192, 'device': 'cpu', 'median_ms': 9}
NOT_MIXED = {'augment.mixup_alpha': 0.0}  # Which takes seconds to compile.
VOID = {'br', 'img', 'input', 'link', 'meta'}


class _Page(HTMLParser):
    """Elements by tag, their attributes and their text; checks that they are nested."""

    def __init__(self, text):
        super().__init__()
        self.elements = []  # (tag, attributes, texts)
        self._open = []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag, attrs):
        assert len({name for name, _ in attrs}) == len(attrs), (tag, attrs)
        self.elements.append((tag, dict(attrs), []))
        if tag not in VOID:
            self._open.append(self.elements[-1])

    def handle_endtag(self, tag):
        assert self._open.pop()[0] == tag

    def handle_data(self, data):
        for _, _, texts in self._open:
            texts.append(data)

    def all(self, tag, **attributes):
        return [
            (found, ''.join(texts))
            for name, found, texts in self.elements
            if name == tag and all(found.get(key.rstrip('_')) == v for key, v in attributes.items())
        ]

    def text(self):
        return ' '.join(''.join(texts) for tag, _, texts in self.elements if tag in ('p', 'th', 'td', 'h3'))


@pytest.fixture(scope='module')
def written(tmp_path_factory):
    """Workdirs of a run with a checkpoint and of one without, and their page by `nfnets-report`."""
    folder = tmp_path_factory.mktemp('runs')
    workdirs = [
        small_runs.write(folder / 'whole', LINES, NOT_MIXED, has_checkpoint=True),
        small_runs.write(folder / '<b>&', LINES, {**NOT_MIXED, 'train.batch_size': 32}),
    ]
    with (workdirs[1] / 'metrics.jsonl').open('a') as file:
        file.write('{"step": 60, "train/lo')
    run = forge.start('report', [*workdirs, '--images=100'], directory=folder, is_apart=True)
    printed, errors = run.communicate(timeout=120)
    assert run.returncode == 0, errors
    output = workdirs[0] / 'report.html'
    assert printed.startswith(str(output))
    return workdirs, _Page(output.read_text()), output


def test_the_page_is_one_file_that_needs_no_other(written):
    _, page, output = written
    text = output.read_text()
    assert text.startswith('<!DOCTYPE html>')
    assert output.stat().st_size < 500_000
    for tag, attributes, _ in page.elements:
        assert tag not in ('link', 'iframe', 'object', 'base')
        for name in ('src', 'href', 'srcset', 'data', 'action', 'poster'):
            assert attributes.get(name, 'data:').startswith('data:'), (tag, attributes)
    assert 'url(' not in text
    assert '@import' not in text
    assert set(re.findall(r'\w+://[^\s\'"<]*', text)) == {
        'http://www.w3.org/2000/svg'
    }  # A name, not fetched.
    identifiers = [a['id'] for _, a, _ in page.elements if 'id' in a]
    assert len(set(identifiers)) == len(identifiers)
    assert all(a.get('alt') for a, _ in page.all('img'))


def test_every_chart_has_its_place_and_the_runs_curves(written):
    workdirs, page, _ = written
    ((_, data),) = page.all('script', type='application/json')
    drawn = json.loads(data)
    assert drawn[:6] == json.loads(json.dumps(curves(read_runs(workdirs))))
    places = [int(a['data-chart']) for a, _ in page.all('figure') if 'data-chart' in a]
    assert places == list(range(len(drawn)))
    titles = [text for a, text in page.all('figure') if 'data-chart' in a]
    assert titles == [chart['title'] for chart in drawn]
    assert [a['data-run'] for a, _ in page.all('input')] == ['0', '1']


def test_the_confusion_matrix_and_mistakes_are_the_networks(written):
    _, page, _ = written
    about = About(preprocessing=Preprocessing(32, 0))
    averaged = Weights('x', 'npz', small_runs.params(1), about)
    predictor, source = Predictor(averaged), DigitsSource('eval')
    examples = [source.read(int(i)) for i in np.linspace(0, 359, 100).round()]
    images = [decode_eval(tf.constant(e), predictor.preprocessing).numpy() for e, _ in examples]
    labels = [label for _, label in examples]
    probabilities = predictor(np.stack(images))
    expected = confusion_matrix(labels, probabilities.argmax(1), labels=range(10))
    ((_, table),) = page.all('table', class_='confusion')
    assert table == '0123456789' + ''.join(
        f'{label}' + ''.join(str(count) if count else '' for count in row)
        for label, row in enumerate(expected)
    )
    accuracy = 100 * np.trace(expected) / 100
    assert f'step 40 on 100 of 360 images: {accuracy:.2f}% are right' in page.text()
    own = probabilities[np.arange(100), labels]
    wrong = [i for i in np.argsort(own, kind='stable') if probabilities[i].argmax() != labels[i]][:24]
    cards = [a['title'] for a, _ in page.all('img') if 'taken for' in a['title']]
    assert [title.split(': ')[1] for title in cards] == [
        f'{labels[i]}, taken for {probabilities[i].argmax()}' for i in wrong
    ]


def test_missing_parts_of_a_run_are_listed_and_names_are_text(written):
    _, page, _ = written
    messages = page.text()
    assert re.search('Skipped: .*<b>& holds no checkpoints/: the run has not saved any yet', messages)
    assert '<b>&: lines of its metrics that cannot be read and are skipped: 1.' in messages
    assert 'train.batch_size' in messages
    headings = [text for _, text in page.all('h3')]
    assert headings == ['whole', '<b>&', 'whole', '<b>&']
    sheets = [a for a, _ in page.all('div', class_='cards')]
    assert len(sheets) == 3  # Training images of both, mistakes of one.


def test_text_cannot_end_a_script():
    script = html.json_script(['</script><b>', '<!--'], 'x')
    page = _Page(html.document('a < b & c', '', '', script))
    assert json.loads(page.all('script', id='x')[0][1]) == ['</script><b>', '<!--']
    assert page.all('title') == [({}, 'a < b & c')]


def test_an_output_that_cannot_be_written_is_refused_before_the_work(tmp_path):
    workdir = small_runs.write(tmp_path / 'run', LINES)
    for output, message in (
        (tmp_path / 'none' / 'x.html', 'there is no directory .*none'),
        (tmp_path, 'it is a directory'),
    ):
        with pytest.raises(InputError, match=f'cannot be written: {message}'):
            write_page([workdir], output, points=[], most_images=1)


def test_data_that_is_gone_leaves_the_curves(tmp_path):
    settings = {'data.source': 'folder', 'data.dir': str(tmp_path / 'gone'), 'data.eval_split': 'val'}
    workdir = small_runs.write(tmp_path / 'run', LINES, settings, has_checkpoint=True)
    write_page([workdir], tmp_path / 'x.html', points=[], most_images=1)
    page = _Page((tmp_path / 'x.html').read_text())
    assert page.text().count('gone is no folder') == 2
    assert page.all('img') == []


def test_imagenets_figure_stands_only_beside_imagenet_or_points(tmp_path):
    gone = {'data.source': 'folder', 'data.dir': str(tmp_path / 'gone'), 'data.eval_split': 'val'}
    other = small_runs.write(tmp_path / 'other', LINES, gone)
    settings = {'data.source': 'tfds', 'data.name': 'imagenet2012', 'data.dir': str(tmp_path / 'gone')}
    imagenet = small_runs.write(tmp_path / 'imagenet', LINES, settings)
    points = tmp_path / 'steps.jsonl'
    points.write_text(json.dumps(STEP))
    for workdirs, files, is_there in (
        ([other], [], False),
        ([other], [points], True),
        ([other, imagenet], [], True),
    ):
        write_page(workdirs, tmp_path / 'x.html', points=files, most_images=1)
        page = _Page((tmp_path / 'x.html').read_text())
        assert ('Accuracy and speed' in [text for _, text in page.all('h2')]) == is_there
        ((_, data),) = page.all('script', type='application/json')
        assert any(chart.get('isFamily') for chart in json.loads(data)) == is_there
        assert ('measured: cpu' in data) == bool(files)
