"""Evaluation counts every example once and gives the means that NumPy gives."""

import haiku as hk
import jax
import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from nfnets.errors import InputError
from nfnets.evaluation.evaluate import Predicted, evaluate, make_eval_step
from nfnets.losses import LOSSES

CLASSES = 12


def _network():
    def forward(images, is_training):
        del is_training
        return {'logits': hk.Linear(CLASSES)(images.mean(axis=(1, 2)))}

    return hk.transform_with_state(forward)


def _examples(count):
    rng = np.random.default_rng(0)
    images = rng.uniform(0, 255, (count, 4, 4, 3)).astype(np.float32)
    return images, rng.integers(0, CLASSES, count).astype(np.int32)


def _batches(images, labels, size):
    for start in range(0, len(images), size):
        real = len(images[start : start + size])
        pad = [(0, size - real)]
        yield {
            'images': np.pad(images[start : start + size], pad + [(0, 0)] * 3),
            'labels': np.pad(labels[start : start + size], pad + [(0, 0)] * (labels.ndim - 1)),
            'mask': np.pad(np.ones(real, np.float32), pad),
            'indices': np.arange(start, start + size, dtype=np.int32),
        }


def _logits(params, images):
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    features = ((images.astype(np.float64) / 255 - mean) / std).mean(axis=(1, 2))
    return features @ np.float64(params['linear']['w']) + np.float64(params['linear']['b'])


def _expected(params, images, labels):
    logits = _logits(params, images)
    rank = np.sum(logits > logits[np.arange(len(labels)), labels][:, None], axis=1)
    log_z = np.log(np.sum(np.exp(logits), axis=1))
    loss = log_z - logits[np.arange(len(labels)), labels]
    return {'loss': loss.mean(), 'top_1': np.mean(rank < 1), 'top_5': np.mean(rank < 5)}


@pytest.mark.parametrize('size', [8, 16, 64])
def test_37_examples_count_as_37_with_the_means_of_numpy(size):
    network = _network()
    images, labels = _examples(37)
    sets = {
        name: network.init(jax.random.key(seed), images[:1], False)
        for seed, name in enumerate(('eval', 'eval_ema'))
    }
    step = make_eval_step(network)
    results = evaluate(step, sets, _batches(images, labels, size), lambda: 37)
    for name, (params, _) in sets.items():
        assert results[name]['num_examples'] == 37
        for key, value in _expected(params, images, labels).items():
            assert results[name][key] == pytest.approx(value, rel=1e-5), (name, key)
    assert results['eval'] != results['eval_ema']


def test_a_count_that_is_not_the_splits_fails_loudly():
    network = _network()
    images, labels = _examples(10)
    variables = network.init(jax.random.key(0), images[:1], False)
    with pytest.raises(RuntimeError, match='counted 10 examples where the split has 11'):
        evaluate(make_eval_step(network), {'eval': variables}, _batches(images, labels, 8), lambda: 11)


def test_the_next_batch_is_dispatched_before_the_results_of_one_are_waited_for():
    events = []

    class Result:
        """What a device will have computed some time."""

        def __init__(self, number):
            self.number = number

        def __array__(self, dtype=None, copy=None):
            events.append(f'wait {self.number}')
            return np.float32(1.0)

    def step(variables, batch, tallies):
        number = sum(event.startswith('dispatch') for event in events)
        events.append(f'dispatch {number}')
        keys = ('loss', 'num_losses', 'top_1', 'top_5', 'num_examples')
        return {'eval': {'sums': {key: Result(number) for key in keys}}}, tallies

    images, labels = _examples(24)
    results = evaluate(step, {'eval': None}, _batches(images, labels, 8), lambda: 3)
    assert results['eval']['num_examples'] == 3  # As each batch says that it holds one.
    order = list(dict.fromkeys(events))
    assert order == ['dispatch 0', 'dispatch 1', 'wait 0', 'dispatch 2', 'wait 1', 'wait 2']


def _with_label_sets(images, labels):
    """The same examples with 0 to 3 labels each: [N, 3], and as 0 and 1, [N, 7]."""
    sets, dense = np.full((len(labels), 3), -1, np.int32), np.zeros((len(labels), CLASSES))
    for example, count in enumerate(np.arange(len(labels)) % 4):
        sets[example, :count] = np.random.default_rng(example).permutation(CLASSES)[:count]
        dense[example, sets[example, :count]] = 1
    return images, sets, dense


@pytest.mark.parametrize('classes', [None, (0, 2, 3, 5, 6)])
def test_any_of_several_labels_is_a_hit_and_examples_without_one_are_skipped(classes):
    network = _network()
    images, sets, labels = _with_label_sets(*_examples(37))
    variables = network.init(jax.random.key(0), images[:1], False)
    step = make_eval_step(network, classes)
    results = evaluate(step, {'eval': variables}, _batches(images, sets, 16), lambda: 37)['eval']
    kept = list(classes or range(CLASSES))
    logits, labels = _logits(variables[0], images)[:, kept], labels[:, kept]
    is_labeled = labels.any(axis=1)
    losses, hits = [], {1: [], 5: []}
    for own, wanted in zip(logits[is_labeled], labels[is_labeled], strict=True):
        log_probabilities = own - np.log(np.sum(np.exp(own)))
        losses.append(-np.mean(log_probabilities[wanted > 0]))
        for most, found in hits.items():
            found.append(any(wanted[np.argsort(-own)[:most]]))
    assert (results['num_examples'], results['num_unlabeled']) == (sum(is_labeled), sum(~is_labeled))
    assert 0 < results['num_unlabeled'] < 37
    expected = np.mean(losses), np.mean(hits[1]), np.mean(hits[5])
    np.testing.assert_allclose([results[k] for k in ('loss', 'top_1', 'top_5')], expected, rtol=1e-5)
    assert 0.1 < results['top_1'] < 0.9


def test_what_is_said_of_every_example_is_handed_out_once():
    network = _network()
    images, labels = _examples(37)
    variables = network.init(jax.random.key(0), images[:1], False)
    classes = (0, 1, 3, 4, 5, 6)
    step = make_eval_step(network, classes, predicts=True)
    said = []
    evaluate(step, {'eval': variables}, _batches(images, labels, 16), lambda: 37, said.append)
    said = Predicted(*map(np.concatenate, zip(*said, strict=True)))
    real = said.mask > 0
    assert said.indices[real].tolist() == list(range(37))
    np.testing.assert_array_equal(said.labels[real], labels)
    logits = _logits(variables[0], images)[:, classes]
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    order = np.argsort(-logits)[:, :5]
    np.testing.assert_array_equal(said.best[real], np.array(classes)[order])
    expected = np.take_along_axis(probabilities, order, axis=1)
    np.testing.assert_allclose(said.probabilities[real], expected, rtol=1e-4)


@pytest.mark.parametrize('loss', ['softmax', 'sigmoid'])
def test_sets_are_measured_as_by_scikit_learn(loss):
    network = _network()
    _, sets, labels = _with_label_sets(*_examples(37))
    images = np.random.default_rng(1).uniform(0, 255, (37, 1, 1, 3)).astype(np.float32)
    params, state = network.init(jax.random.key(0), images[:1], False)
    variables = {'eval': (jax.tree.map(lambda p: 3 * p, params), state)}
    step = make_eval_step(network, loss=LOSSES[loss])
    results = evaluate(step, variables, _batches(images, sets, 16), lambda: 37, tally_classes=CLASSES)['eval']
    logits = _logits(variables['eval'][0], images)
    is_labeled = labels.any(axis=1)
    assert (results['num_examples'], results['num_unlabeled']) == (sum(is_labeled), sum(~is_labeled))
    best = np.argsort(-logits, axis=1)[is_labeled]
    found = np.take_along_axis(labels[is_labeled], best, axis=1)
    own = labels[is_labeled]
    expected = {'top_1': found[:, 0].mean(), 'top_5': found[:, :5].any(axis=1).mean()}
    expected |= {f'recall_at_{k}': np.mean(found[:, :k].sum(1) / own.sum(1)) for k in (3, 5, 10)}
    if loss == 'sigmoid':  # An example without a label is one of no class.
        scores, counted = logits, labels
        each = labels * np.logaddexp(0, -logits) + (1 - labels) * np.logaddexp(0, logits)
        expected['loss'] = np.mean(each.sum(axis=1))
    else:
        log_p = (logits - np.log(np.exp(logits).sum(axis=1, keepdims=True)))[is_labeled]
        scores, counted = log_p - np.log1p(-np.exp(log_p)), own
        expected['loss'] = -np.mean(np.sum(own * log_p, axis=1) / own.sum(axis=1))
    for key, value in expected.items():
        assert results[key] == pytest.approx(value, rel=1e-5), key
    precisions = [average_precision_score(counted[:, k], np.floor(32 * scores[:, k])) for k in range(CLASSES)]
    assert results['mean_average_precision'] == pytest.approx(np.mean(precisions), rel=1e-5)
    assert 0.1 < results['mean_average_precision'] < 0.9


def test_a_split_without_any_label_is_refused():
    images, _ = _examples(10)
    variables = _network().init(jax.random.key(0), images[:1], False)
    batches = _batches(images, np.full((10, 3), -1, np.int32), 16)
    with pytest.raises(InputError, match='none of the 10 examples to evaluate on has a label'):
        evaluate(make_eval_step(_network()), {'eval': variables}, batches, lambda: 10)
