"""Probes of features: the regression against scikit-learn's, what it learns from, and what a run logs."""

import functools
import io

import numpy as np
import pytest
import training_runs
from PIL import Image
from sklearn.linear_model import Ridge as SklearnRidge

import nfnets
from nfnets.data.digits import DigitsSource
from nfnets.data.subset import Subset, some_of_each_class
from nfnets.errors import InputError
from nfnets.evaluation.probe import L2, LabeledFeatures, Ridge, accuracy, features


def _random(count, seed=0, channels=12, num_classes=4):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, num_classes, count).astype(np.int32)
    pooled = rng.normal(3.0, 2.0, (count, channels)) + 0.7 * np.arange(channels) * (labels[:, None] == 2)
    pooled[:, -1] = 5.0  # Never varies.
    return LabeledFeatures(pooled.astype(np.float32), labels)


def _predicted_by_sklearn(train, pooled, strength, num_classes=4):
    mean, std = train.pooled.astype(float).mean(0), train.pooled.astype(float).std(0) + 1e-5
    ridge = SklearnRidge(alpha=strength, solver='cholesky')
    ridge.fit((train.pooled - mean) / std, np.eye(num_classes)[train.labels])
    return ridge.predict((pooled - mean) / std)


@pytest.mark.parametrize('count', [8, 50])  # Fewer and more than channels.
def test_predictions_are_those_of_scikit_learn(count):
    train, evaluation = _random(count), _random(30, seed=1)
    expected = [_predicted_by_sklearn(train, evaluation.pooled, strength) for strength in L2]
    found = list(Ridge(train, 4).predict(evaluation.pooled, L2))
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-9)
    hits = [np.mean(np.argmax(y, axis=1) == evaluation.labels) for y in expected]
    assert accuracy(train, evaluation, 4) == max(hits) > min(hits)


def test_some_of_each_class_are_always_the_same_and_few_are_read():
    source = DigitsSource('train')
    chosen = some_of_each_class(source, 10)
    for count in (1, 10):
        labels = [source.read(index)[1] for index in chosen[:count].ravel()]
        assert sorted(labels) == sorted(list(range(10)) * count)
    assert len(np.unique(chosen)) == 100
    np.testing.assert_array_equal(some_of_each_class(source, 5), chosen[:5])
    subset = Subset(source, chosen.ravel())
    assert len(subset) == 100
    for read in (subset.read(7), subset.start(7)()):
        assert read == source.read(chosen.ravel()[7])
    assert subset.describe(7) == source.describe(chosen.ravel()[7])
    with pytest.raises(InputError, match=r'the class . has 1\d\d images, and 1000 are wanted'):
        some_of_each_class(source, 1000)


@pytest.mark.parametrize('indices', [[0, 1, 1], [0, 1]])
def test_an_example_that_is_not_counted_once_is_an_error(indices):
    batch = {
        'pool': np.ones((1, len(indices), 2)),
        'indices': np.array([indices]),
        'mask': np.ones((1, len(indices))),
    }
    batch['labels'] = np.zeros((1, len(indices)), np.int32)
    step = functools.partial(lambda one, variables, shards: one, batch)
    one = {'images': np.zeros((8, 1), np.float32)}
    with pytest.raises(RuntimeError, match='features were computed where the split has 3 images'):
        features(step, None, [one], 3, lambda: 0)


def test_a_run_logs_the_accuracies_of_its_emas_features(tmp_path, capfd):
    probe = {
        'probe.source': 'digits',
        'probe.eval_split': 'eval',
        'probe.shots': (1, 10),
        'probe.linear': True,
    }
    training_runs.train(tmp_path / 'run', {**training_runs.TINY, **probe})
    assert '  probe:    1_shot ' in capfd.readouterr().out
    logged = [line for line in training_runs.metrics(tmp_path / 'run') if 'probe/linear' in line]
    assert [line['step'] for line in logged] == [6, 12]

    train, evaluation = (_features_of(tmp_path / 'run', split) for split in ('train', 'eval'))
    chosen = some_of_each_class(DigitsSource('train'), 10)
    for name, rows in {'1_shot': chosen[0], '10_shot': chosen.ravel(), 'linear': np.arange(1437)}.items():
        few = train.of(rows)
        each = [_predicted_by_sklearn(few, evaluation.pooled, strength, 10) for strength in L2]
        expected = max(np.mean(np.argmax(y, axis=1) == evaluation.labels) for y in each)
        assert logged[-1][f'probe/{name}'] == pytest.approx(expected, abs=1.5 / 360)
        assert expected > 0.2  # A tenth by chance.


def _features_of(workdir, split):
    """By the way of those who use a network in Python."""
    source, model = DigitsSource(split), nfnets.load(workdir, ema=True)
    encoded, labels = zip(*(source.read(index) for index in range(len(source))), strict=True)
    images = [Image.open(io.BytesIO(image)) for image in encoded]
    return LabeledFeatures(model.features(images).pooled, np.array(labels))


@pytest.mark.parametrize(
    ('changed', 'message'),
    [
        ({'probe.source': 'tfds'}, r"probe\.source='tfds' needs probe\.name"),
        ({'probe.source': 'digits'}, "the data of the probe: .*'validation'"),
        ({'probe.source': 'nowhere'}, "the data of the probe: .*'nowhere'"),
        ({'probe.source': 'digits', 'probe.shots': ()}, r'probe\.shots=\(\) is not allowed'),
        ({'probe.source': 'digits', 'probe.eval_split': 'eval', 'probe.shots': (900,)}, '900 are wanted'),
    ],
)
def test_a_probe_that_cannot_be_is_named_before_anything_is_written(changed, message, tmp_path):
    with pytest.raises(InputError, match=message):
        training_runs.train(tmp_path / 'run', {**training_runs.TINY, **changed})
    assert not (tmp_path / 'run').exists()
