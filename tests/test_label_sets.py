"""Images of several digits, labeled with all of them: trained by the sigmoid loss, evaluated, predicted."""

import csv
import functools
import json

import jax
import numpy as np
import pytest
import training_runs
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.metrics import average_precision_score

import nfnets
from nfnets import build
from nfnets.config import complete
from nfnets.evaluation.summary import summary
from nfnets.inference.predictions import PredictionsFile
from nfnets.inference.score import config_of, score
from nfnets.weights.load import load_checkpoint

COUNTS = {'train': 320, 'val': 160}
SETTINGS = {
    **training_runs.TINY,
    'data.source': 'folder',
    'data.eval_split': 'val',
    'data.crop_area': (1.0, 1.0),
    'train.loss': 'sigmoid',
    'optimizer.learning_rate': 0.3,
    'train.label_smoothing': 0.0,
    'train.steps': 60,
    'train.log_every_steps': 20,
    'eval.every_steps': 20,
    'checkpoint.every_steps': 30,
    'augment.mixup_alpha': 0.1,
}


def _write(directory):
    """Images of 16 x 16 px with up to four digits, none in the first of each split; with their tables."""
    digits, rng = load_digits(), np.random.default_rng(0)
    for split, count in COUNTS.items():
        (directory / split).mkdir()
        rows = [('file', 'labels')]
        for number in range(count):
            image, names = np.zeros((2, 2, 8, 8)), set()
            for place in rng.permutation(4)[: rng.integers(1, 5) if number else 0]:
                chosen = rng.integers(len(digits.target))
                image[place // 2, place % 2] = digits.images[chosen]
                names.add(str(digits.target[chosen]))
            pixels = np.rint(image.swapaxes(1, 2).reshape(16, 16) * 255 / 16).astype(np.uint8)
            Image.fromarray(pixels).save(directory / split / f'{number}.png')
            rows.append((f'{split}/{number}.png', ';'.join(sorted(names))))
        with (directory / f'{split}.csv').open('w', newline='') as file:
            csv.writer(file).writerows(rows)


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    directory = tmp_path_factory.mktemp('several_digits')
    _write(directory)
    return directory


@pytest.fixture(scope='module')
def trained(data, tmp_path_factory):
    workdir = tmp_path_factory.mktemp('runs') / 'run'
    results = training_runs.train(workdir, {**SETTINGS, 'data.dir': str(data)})
    return workdir, results


def _table(data):
    """Paths and labels, [N, 10], of the images held out."""
    with (data / 'val.csv').open(newline='') as file:
        rows = list(csv.DictReader(file))
    labels = np.array([[str(k) in row['labels'].split(';') for k in range(10)] for row in rows])
    return [data / row['file'] for row in rows], labels


def test_the_mean_average_precision_rises_and_is_scikit_learns(data, trained):
    workdir, results = trained
    lines = [line for line in training_runs.metrics(workdir) if 'eval/loss' in line]
    precisions = [line['eval/mean_average_precision'] for line in lines]
    assert precisions[0] + 0.1 < precisions[-1] == results['eval']['mean_average_precision']
    paths, labels = _table(data)
    network = nfnets.load(workdir)
    probabilities = network(network.preprocess(paths))
    assert np.ptp(probabilities.sum(axis=1)) > 0.5  # Not a distribution.
    expected = np.mean([average_precision_score(labels[:, k], probabilities[:, k]) for k in range(10)])
    assert precisions[-1] == pytest.approx(expected, abs=5e-3)
    assert expected > labels.mean() + 0.1
    held_out = labels.any(axis=1)
    own = np.take_along_axis(labels, np.argsort(-probabilities, axis=1), axis=1)[held_out]
    for key, value in {
        'top_1': own[:, 0].mean(),
        'recall_at_5': np.mean(own[:, :5].sum(axis=1) / own.sum(axis=1)),
        'loss': -np.mean(np.sum(np.log(np.where(labels, probabilities, 1 - probabilities)), axis=1)),
    }.items():
        assert results['eval'][key] == pytest.approx(value, abs=2e-3), key
    assert (results['eval']['num_examples'], results['eval']['num_unlabeled']) == (159, 1)
    line = summary(results)
    assert f'mean average precision {100 * precisions[-1]:.2f}%, precision at 1 ' in line


def test_every_class_begins_with_its_share_of_one_label_an_image(data):
    config = training_runs.config({**SETTINGS, 'data.dir': str(data)})
    frozen = complete(config, num_examples=320, num_classes=10, num_devices=8)
    params, _ = jax.jit(functools.partial(build.initial_variables, frozen))(jax.random.key(0))
    np.testing.assert_allclose(params['NF_ResNet/~/linear']['b'], np.full(10, -np.log(10)), rtol=1e-6)


def test_an_evaluation_of_the_run_takes_its_loss_and_names_the_labels(data, trained, tmp_path):
    workdir, results = trained
    weights = load_checkpoint(workdir)
    config = config_of(weights, training_runs.config({}), {}, is_given=False, keeps_network=False)
    with PredictionsFile(tmp_path / 'said.csv') as file:
        result = score(config, weights, record=file.add)
    assert json.loads(json.dumps(result))['loss'] == pytest.approx(results['eval']['loss'], rel=1e-4)
    for key in ('top_1', 'recall_at_5', 'mean_average_precision'):
        assert result[key] == pytest.approx(results['eval'][key], abs=2e-3), key
    with (tmp_path / 'said.csv').open(newline='') as file:
        said = {row['image']: row['labels'] for row in csv.DictReader(file)}
    paths, labels = _table(data)
    expected = {str(p): ' '.join(map(str, np.flatnonzero(own))) for p, own in zip(paths, labels, strict=True)}
    assert said == {path: listed for path, listed in expected.items() if listed}
