"""The page about a run that detects: its pictures, its precision by class, its curves."""

import base64
import io
import re

import detection_runs
import numpy as np
import pytest
import small_runs
from coco_sets import write_set
from PIL import Image

from nfnets.detection.drawing import draw_true
from nfnets.detection.examples import CocoExamples
from nfnets.html_report import charts
from nfnets.html_report.overview import overview
from nfnets.html_report.write import write_page
from nfnets.run.logged import read_runs

METRICS = [
    {'step': 20, 'train/loss': 3.0, 'train/loss/mask': 0.5, 'train/loss/anchor_shifts': 0.25},
    {'step': 40, 'eval/box_ap': 0.25, 'eval_ema/box_ap': 0.5, 'eval_ema/mask_ap': 0.375}
    | {'eval_ema/box_ap/left': 0.125, 'eval_ema/mask_ap/left': 0.75},
]


def _image(seed):
    rng = np.random.default_rng(seed)
    pixels, mask = rng.integers(0, 256, (64, 64, 3), np.uint8), np.zeros((64, 64), bool)
    mask[10:50, 20:44] = True
    return pixels, [(0, mask, False), (2, ~mask, True)]


@pytest.fixture(scope='module')
def runs(tmp_path_factory):
    directory = tmp_path_factory.mktemp('runs')
    data = directory / 'data'
    for split, seeds in (('train', range(5)), ('val', range(10, 13))):
        write_set(data, split, [_image(seed) for seed in seeds])
    whole, _ = detection_runs.write(directory / 'whole', data, METRICS)
    new, _ = detection_runs.write(directory / 'new', data, METRICS[:1], has_checkpoint=False)
    return [whole, new], CocoExamples(data, 'val')


def _pictures(page):
    encoded = re.findall(r'src="data:image/jpeg;base64,([^"]+)"', page)
    return [np.asarray(Image.open(io.BytesIO(base64.b64decode(text))), float) for text in encoded]


def test_the_page_shows_truth_beside_what_is_found(runs, tmp_path):
    workdirs, examples = runs
    write_page(workdirs, tmp_path / 'page.html', points=[], most_images=8)
    page = (tmp_path / 'page.html').read_text()
    pictures = _pictures(page)
    # Four training images, the same for both runs, and three held out, twice each; of the other run none.
    assert len(pictures) == 4 + 2 * 3
    assert all(picture.shape == (512, 512, 3) for picture in pictures)
    for index, truth in enumerate(pictures[4::2]):
        pixels = np.asarray(Image.open(examples.describe(index)))
        expected = draw_true(pixels, examples.annotated(index), examples.class_names)
        assert np.mean(np.abs(truth - expected)) < 10  # JPEG, of noise.
        assert np.mean(np.abs(truth - pictures[4 + 2 * index + 1])) > 20
    assert 'parameters at step 40 on 3 of 3 images' in page
    assert re.search(r'left</th><td>12\.5%</td><td>75\.0%</td>', page)
    assert 'middle</th>' not in page
    assert re.search(r'Skipped: .*holds no checkpoint', page)
    assert 'Losses, whose sum is minimized' in page


def test_runs_that_detect_are_listed_with_their_precision(runs, tmp_path):
    def rows(section):
        head, *rows = [[''.join(cell.itertext()) for cell in row] for row in section.iter('tr')]
        return [dict(zip(head, row, strict=True)) for row in rows]

    workdirs, examples = runs
    whole, new = rows(overview(read_runs(workdirs)))
    columns = ('box AP held out', 'box AP EMA', 'mask AP EMA')
    assert list(whole)[1:5] == [*columns, 'steps']
    assert [whole[name] for name in columns] == ['25.00%', '50.00%', '37.50%']
    assert [new[name] for name in columns] == ['-', '-', '-']
    assert whole['data'] == str(examples.file.path.parents[1])
    both = rows(overview(read_runs([workdirs[0], small_runs.write(tmp_path / 'digits', [])])))
    assert list(both[0])[1:7] == ['top-1 held out', 'top-1 EMA', *columns, 'loss EMA']


def test_curves_are_of_what_is_measured(runs):
    drawn = {chart['title']: chart for chart in charts.curves(read_runs(runs[0]))}
    assert not any('Top-1' in title for title in drawn)
    (line, ema) = drawn['Average precision of boxes, held out']['lines']
    assert (line['y'], ema['y']) == ([25.0], [50.0])
    assert [line['y'] for line in drawn['Average precision of masks, held out']['lines']] == [[37.5]]
    parts = {chart['title']: chart['lines'][0]['y'] for chart in charts.losses_by_part(read_runs(runs[0]))}
    assert parts == {'anchor shifts': [0.25], 'mask': [0.5]}
