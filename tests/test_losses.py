"""Targets and loss against NumPy in float64."""

import jax.numpy as jnp
import numpy as np

from nfnets.losses import LOSSES, cross_entropy, soft_targets, softmax_log_odds

SETS = jnp.array([[0, 2, -1], [1, -1, -1], [-1, -1, -1]]), jnp.array([[2, 3, 0], [1, 1, -1], [3, -1, -1]])
RATIO = jnp.array([0.75, 0.4, 0.5])


def test_targets_mix_two_labels_and_spread_the_smoothing():
    targets = soft_targets(
        jnp.array([0, 2]), jnp.array([1, 2]), jnp.array([0.75, 0.4]), num_classes=4, label_smoothing=0.1
    )
    expected = 0.9 * np.array([[0.75, 0.25, 0, 0], [0, 0, 1, 0]]) + 0.025
    np.testing.assert_allclose(targets, expected, rtol=1e-6)


def test_cross_entropy_is_the_formula_even_for_large_logits():
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(5, 7)) * 300
    targets = rng.dirichlet(np.ones(7), 5)
    shifted = logits - logits.max(1, keepdims=True)
    expected = -np.sum(targets * (shifted - np.log(np.exp(shifted).sum(1, keepdims=True))), axis=1)
    actual = cross_entropy(jnp.asarray(logits, jnp.float32), jnp.asarray(targets, jnp.float32))
    np.testing.assert_allclose(actual, expected, rtol=1e-5)


def test_bfloat16_logits_are_added_up_in_float32():
    loss = cross_entropy(jnp.zeros((1, 1000), jnp.bfloat16), jnp.full((1, 1000), 1e-3))
    assert loss.dtype == jnp.float32
    np.testing.assert_allclose(loss, np.log(1000), rtol=1e-5)


def test_a_set_gives_each_of_its_labels_as_much_with_softmax_and_all_of_it_with_sigmoid():
    settings = {'num_classes': 4, 'label_smoothing': 0.1}
    expected = np.array([[0.375 + 0.25 / 3, 0, 0.375 + 0.25 / 3, 0.25 / 3], [0, 1, 0, 0], [0, 0, 0, 0.5]])
    targets = soft_targets(*SETS, RATIO, **settings)
    np.testing.assert_allclose(targets, 0.9 * expected + 0.025, rtol=1e-6)
    expected = np.array([[1, 0, 1, 0.25], [0, 1, 0, 0], [0, 0, 0, 0.5]])
    targets = soft_targets(*SETS, RATIO, **settings, loss=LOSSES['sigmoid'])
    np.testing.assert_allclose(targets, 0.9 * expected + 0.025, rtol=1e-6)
    assert float(targets.max()) <= 1


def test_binary_cross_entropy_is_the_formula_summed_over_classes_even_for_large_logits():
    rng = np.random.default_rng(0)
    given, targets = jnp.asarray(rng.normal(size=(5, 7)) * 60, jnp.bfloat16), rng.uniform(size=(5, 7))
    actual = LOSSES['sigmoid'].of_each(given, jnp.asarray(targets, jnp.float32))
    assert actual.dtype == jnp.float32
    logits = np.float64(given)
    expected = np.sum(targets * np.logaddexp(0, -logits) + (1 - targets) * np.logaddexp(0, logits), axis=1)
    np.testing.assert_allclose(actual, expected, rtol=1e-5)


def test_log_odds_are_those_of_the_probabilities():
    logits = np.random.default_rng(0).normal(size=(5, 7)) * 4
    probabilities = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    expected = np.log(probabilities / (1 - probabilities))
    np.testing.assert_allclose(softmax_log_odds(jnp.asarray(logits, jnp.float32)), expected, rtol=2e-4)
