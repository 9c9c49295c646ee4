"""Evaluation on the published test sets, against accuracies counted image by image in float64."""

import csv
import functools
import io
import json

import jax
import numpy as np
import pytest
import tensorflow_datasets as tfds
import tiny_imagenet_sets
import tiny_network
from pure_nfnet import make_network

from nfnets import Variant
from nfnets.commands import evaluate
from nfnets.data.augment import normalize
from nfnets.data.decode import decode_eval
from nfnets.data.imagenet_sets import SETS
from nfnets.data.preprocessing import Preprocessing
from nfnets.data.tensorflow import tf
from nfnets.inference import tables
from nfnets.weights.about import About
from nfnets.weights.save import save_checkpoint

SMALL = Variant((16,), (1,), group_width=8)
# What the network below says nearly always: labels of these sets, some of A and R, and some of neither.
LIKELY = (0, 1, 7, 6, 11, 65, 230, 313, 988, 900, 29, 42, 500)


@pytest.fixture(scope='module')
def data(made_once):
    return made_once('tiny_imagenet_sets', tiny_imagenet_sets.prepare)


@pytest.fixture(scope='module')
def params():
    params = tiny_network.params(SMALL, num_classes=1000)
    params['NFNet/~/linear']['w'] *= 0.3
    params['NFNet/~/linear']['b'][list(LIKELY)] = np.linspace(8, 10, len(LIKELY))
    return params


@pytest.fixture(scope='module')
def checkpoint(params, tmp_path_factory):
    path = tmp_path_factory.mktemp('checkpoint') / 'k.npz'
    save_checkpoint(path, 'npz', params, About(None, Preprocessing(16, 2)))
    return path


@pytest.fixture
def command(monkeypatch, capsys):
    """Runs `nfnets-evaluate`; returns status, output and errors."""
    monkeypatch.setenv('NFNETS_HOST', 'as-is')  # Other tests run in this process.

    def run(*arguments):
        with pytest.raises(SystemExit) as ended:
            evaluate.main([*map(str, arguments), '--config.eval.batch_size=16'])
        return ended.value.code, *capsys.readouterr()

    return run


def _examples(key, data):
    """Of each image, by TFDS: its name, what is in its file, and its labels."""
    test_set = SETS[key]
    decoders = {'image': tfds.decode.SkipDecoding()}
    examples = tfds.load(test_set.name, data_dir=data, split=test_set.split, decoders=decoders)
    for one in examples.as_numpy_iterator():
        yield one['file_name'].decode(), one['image'], np.ravel(one.get('label', one.get('real_label')))


@pytest.fixture(scope='module')
def counted(params, data):
    """(key of a set, size) to {name: (labels, five best, their probabilities)} of its images with labels."""
    examples = [(key, *one) for key in SETS for one in _examples(key, data)]
    apply = jax.jit(make_network(1000, SMALL).apply, static_argnums=3)

    @functools.cache
    def logits(size):
        pixels = [decode_eval(tf.constant(e), Preprocessing(size, 2)).numpy() for _, _, e, _ in examples]
        return np.float64(apply(params, None, normalize(np.stack(pixels)), False)['logits'])

    def count(wanted, size):
        classes = np.arange(1000) if SETS[wanted].classes is None else np.array(SETS[wanted].classes)
        said = {}
        for (key, name, _, labels), own in zip(examples, logits(size)[:, classes], strict=True):
            if key == wanted and labels.size:
                order = np.argsort(-own)[:5]
                probabilities = np.exp(own[order]) / np.sum(np.exp(own))
                said[name] = set(labels.tolist()), classes[order].tolist(), probabilities
        return said

    return count


def _accuracies(said):
    """Top-1 and top-5."""
    return [np.mean([bool(labels & set(best[:k])) for labels, best, _ in said.values()]) for k in (1, 5)]


def test_every_set_is_counted_by_its_conventions(command, checkpoint, counted, data, tmp_path):
    file = tmp_path / 'predictions.csv'
    names = 'imagenet,real,v2,imagenet_a,r,sketch'
    status, printed, errors = command(
        f'--checkpoint={checkpoint}', f'--set={names}', f'--config.data.dir={data}', f'--predictions={file}'
    )
    assert status == 0, errors
    results, lines = [json.loads(line) for line in printed.splitlines()[:6]], printed.splitlines()[6:]
    rows = list(csv.DictReader(io.StringIO(file.read_text())))
    assert [result['set'] for result in results] == list(SETS)
    assert [line.split(' | ')[2] for line in lines[2:]] == list(SETS)
    seen = set()
    for result in results:
        said = counted(result['set'], 16)
        np.testing.assert_allclose([result['top_1'], result['top_5']], _accuracies(said), atol=1e-9)
        assert result['num_examples'] == len(said)
        assert result.get('num_unlabeled', 0) == (2 if result['set'] == 'real' else 0)
        own = {row['image']: row for row in rows if row['set'] == result['set']}
        assert own.keys() == said.keys()
        for name, (labels, best, probabilities) in said.items():
            row = own[name]
            assert row['labels'] == ' '.join(map(str, sorted(labels)))
            assert [int(row[f'label_{i}']) for i in range(1, 6)] == best
            given = [float(row[f'probability_{i}']) for i in range(1, 6)]
            np.testing.assert_allclose(given, probabilities, rtol=2e-3, atol=1e-6)
            hits = row['top_1'], row['top_5']
            assert hits == tuple(str(int(bool(labels & set(best[:k])))) for k in (1, 5))
            seen |= {(result['set'], hits)}
    assert len(rows) == sum(result['num_examples'] for result in results)
    # None of it would be shown by a network that is always wrong, or always right.
    assert {key for key, (_, top_5) in seen if top_5 == '1'} == set(SETS)
    assert {hits for _, hits in seen} == {('0', '0'), ('0', '1'), ('1', '1')}


def test_several_sizes_and_checkpoints_are_one_table(command, checkpoint, counted, data):
    arguments = f'--checkpoint={checkpoint}', '--set=real', '--size=16,24', f'--config.data.dir={data}'
    status, printed, errors = command(*arguments, '--csv')
    assert status == 0, errors
    first, second = csv.DictReader(io.StringIO(printed))
    assert tuple(first) == tables.CSV_COLUMNS
    for row, size in ((first, 16), (second, 24)):
        assert (row['size'], row['margin'], row['num_examples'], row['num_unlabeled']) == (
            *(str(size), '2', '17', '2'),
        )
        np.testing.assert_allclose(
            [float(row['top_1']), float(row['top_5'])], _accuracies(counted('real', size)), atol=1e-9
        )
    status, printed, _ = command(*arguments[:3], f'--checkpoint={checkpoint}', *arguments[3:], '--json')
    assert [json.loads(line)['preprocessing']['size'] for line in printed.splitlines()] == [16, 24, 16, 24]


def test_the_classes_of_a_and_r_are_timms():
    """Sums over imagenet_a_indices.txt and imagenet_r_indices.txt of timm 1.0.31."""
    for key, expected in {'a': (6, 988, 102178, 69725368), 'r': (1, 988, 86135, 54436113)}.items():
        classes = SETS[key].classes
        assert len(classes) == len(set(classes)) == 200
        assert classes == tuple(sorted(classes))
        assert (classes[0], classes[-1], sum(classes), sum(x * x for x in classes)) == expected
    assert SETS['v2'].classes is None


def test_what_cannot_be_evaluated_is_said_before_anything_is(command, checkpoint, data, tmp_path):
    few = tmp_path / 'few.npz'
    save_checkpoint(few, 'npz', tiny_network.params(SMALL, num_classes=10), About(None, Preprocessing(16, 2)))
    other, names = tmp_path / 'other.npz', tuple(f'x{label}' for label in range(1000))
    save_checkpoint(
        other, 'npz', tiny_network.params(SMALL, num_classes=1000), About(names, Preprocessing(16, 2))
    )
    there, ours = f'--config.data.dir={data}', f'--checkpoint={checkpoint}'
    nowhere = f'--config.data.dir={tmp_path}'
    written = tmp_path / 'p.csv'
    written.write_text('mine')
    for arguments, expected in (
        (
            (ours, f'--checkpoint={other}', '--set=v2', there),
            f"label 0 of the data is the class 'n01440764', and {other} has 'x0' there",
        ),
        ((ours, f'--checkpoint={few}', '--set=v2', nowhere), f'{few} is of 10 classes, and --set needs Imag'),
        (
            (ours, '--set=v2', nowhere),
            'data.name=imagenet_v2/matched-frequency is not prepared in data.dir='
            f'{tmp_path}; run `tfds build imagenet_v2/matched-frequency --data_dir={tmp_path} --file',
        ),
        (
            (ours, '--set=real', nowhere),
            'data.name=imagenet2012_real is not prepared in data.dir='
            f'{tmp_path}; put ILSVRC2012_img_val.tar into {tmp_path}/downloads/manual and run `tfds build',
        ),
        (
            (ours, '--set=v2,scetch', there),
            "argument --set: there is no 'scetch'; nearest: sketch; there are imagenet,",
        ),
        (
            (ours, '--set=v2', '--size=16,0', there),
            "argument --size: '0' must be a whole number of px, 1 px or more",
        ),
        (
            (ours, '--set=v2', '--config.data.name=x', there),
            '--set and --config.data.name say the same thing',
        ),
        (
            (ours, '--size=16', '--config.data.eval_size=16'),
            '--size and --config.data.eval_size say the same',
        ),
        ((ours, '--set=v2', there, f'--predictions={written}'), f'{written} exists already: remove it first'),
        (
            (ours, '--set=v2', nowhere, f'--predictions={tmp_path}/n/p.csv'),
            f'{tmp_path}/n/p.csv cannot be written: No such',
        ),
        ((ours, '--set=v2', nowhere, f'--predictions={tmp_path}/new.csv'), 'data.name=imagenet_v2'),
    ):
        status, printed, errors = command(*arguments)
        assert (status, printed, errors.count('\n')) == (2, '', 1)
        assert errors.startswith(f'error: {expected}')
    assert written.read_text() == 'mine'
    assert not (tmp_path / 'new.csv').exists()


def test_imagenets_own_validation_set_is_known_without_being_named(command, checkpoint, data):
    status, printed, _ = command(f'--checkpoint={checkpoint}', f'--config.data.dir={data}')
    assert status == 0
    assert json.loads(printed)['set'] == 'imagenet'


def test_differences_from_what_was_published_are_in_percentage_points():
    result = {
        'checkpoint': 'a/F0.npz',
        'variant': 'F0',
        'set': 'imagenet',
        'num_examples': 50000,
        'preprocessing': {'size': 256, 'margin': 32, 'style': 'paper'},
        'top_1': 0.8348,
        'top_5': 0.97,
    }
    sketch = {**result, 'set': 'sketch', 'top_1': 0.354}
    other_px = {**result, 'preprocessing': {**result['preprocessing'], 'size': 192}}
    *_, first, second, third = tables.markdown([result, sketch, other_px]).splitlines()
    assert first == (
        '| F0.npz | F0 | imagenet | paper, 256 | 50,000 | 83.48 | 97.00 '
        '| 83.6 (-0.12) | 96.8 (+0.20) | 83.486 (-0.01) | 96.568 (+0.43) |'
    )
    assert second.endswith('| 35.40 | 97.00 | - | - | 35.407 (-0.01) | - |')
    assert third.endswith('| paper, 192 | 50,000 | 83.48 | 97.00 | - | - | - | - |')
    assert tables.with_published(result)['paper_top_1'] == 0.836
    assert tables.with_published(sketch)['timm_top_5'] is None
