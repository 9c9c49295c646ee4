"""Targets and loss against NumPy in float64."""

import jax.numpy as jnp
import numpy as np

from nfnets.losses import cross_entropy, soft_targets


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
