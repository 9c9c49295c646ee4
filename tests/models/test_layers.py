"""Layers against NumPy in float64."""

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy_layers import convolved, standardized

from nfnets.models.activations import ACTIVATIONS
from nfnets.models.layers import SqueezeExcite, WSConv2D, standardize_weight, stochastic_depth


@pytest.mark.parametrize(('kernel', 'stride', 'groups'), [(3, 1, 1), (3, 2, 2), (1, 1, 1), (3, 2, 4)])
def test_a_convolution_is_its_definition(kernel, stride, groups):
    rng = np.random.default_rng(kernel * stride * groups)
    x = rng.normal(size=(2, 7, 6, 8))
    network = hk.without_apply_rng(
        hk.transform(lambda y: WSConv2D(12, kernel, stride, groups, name='conv')(y))
    )
    params = network.init(jax.random.key(0), jnp.asarray(x, jnp.float32))
    gain, bias = rng.normal(size=12), rng.normal(size=12)
    params['conv'].update(gain=jnp.asarray(gain, jnp.float32), bias=jnp.asarray(bias, jnp.float32))
    expected = convolved(x, standardized(params['conv']['w'], gain), stride, groups) + bias
    actual = network.apply(params, jnp.asarray(x, jnp.float32))
    np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-5)


def test_a_constant_weight_standardizes_to_zero_not_to_nan():
    w = standardize_weight(jnp.full((3, 3, 2, 4), 0.7), jnp.ones(4))
    np.testing.assert_allclose(w, np.zeros(w.shape), atol=1e-4)


def test_derivatives_of_standardization_are_those_of_its_formula():
    # By central differences of the formula in NumPy; the third channel lies below the floor.
    rng = np.random.default_rng(0)
    w, gain, cotangent = rng.normal(size=(3, 2, 4, 5)), rng.normal(size=5), rng.normal(size=(3, 2, 4, 5))
    w[..., 2] = 0.3 + 1e-4 * rng.normal(size=w.shape[:3])
    w_dot, gain_dot = rng.normal(size=w.shape), rng.normal(size=5)

    def gradients(w, gain):
        return jax.vjp(standardize_weight, w, gain)[1](cotangent)

    @jax.jit
    def derivatives(w, gain):
        along = (w, gain), (w_dot, gain_dot)
        return jax.jvp(standardize_weight, *along), jax.jvp(gradients, *along)

    step = 1e-6
    with jax.enable_x64(True):
        (value, tangent), ((of_w, of_gain), curvature) = derivatives(w, gain)
        plus, minus = (
            jax.device_get(jax.jit(gradients)(w + sign * step * w_dot, gain + sign * step * gain_dot))
            for sign in (1, -1)
        )
    np.testing.assert_allclose(value, standardized(w, gain), rtol=1e-10)
    for index in np.ndindex(w.shape):
        moved = np.zeros_like(w)
        moved[index] = step
        difference = standardized(w + moved, gain) - standardized(w - moved, gain)
        np.testing.assert_allclose(of_w[index], np.sum(difference * cotangent) / (2 * step), atol=1e-6)
    expected = np.sum(standardized(w, np.ones(5)) * cotangent, axis=(0, 1, 2))
    np.testing.assert_allclose(of_gain, expected, rtol=1e-10)
    # The other directions: forward, and along the same line of the gradients just shown to be right.
    move = step * w_dot, step * gain_dot
    difference = standardized(w + move[0], gain + move[1]) - standardized(w - move[0], gain - move[1])
    np.testing.assert_allclose(tangent, difference / (2 * step), rtol=1e-6, atol=1e-6)
    for actual, up, down in zip(curvature, plus, minus, strict=True):
        np.testing.assert_allclose(actual, (up - down) / (2 * step), rtol=1e-6, atol=1e-5)


def test_weights_start_with_variance_one_over_fan_in():
    network = hk.transform(lambda y: WSConv2D(512, 3, name='conv')(y))
    params = network.init(jax.random.key(0), jnp.zeros((1, 4, 4, 64)))['conv']
    assert np.var(params['w']) == pytest.approx(1 / (9 * 64), rel=0.02)
    assert np.all(params['gain'] == 1)
    assert np.all(params['bias'] == 0)


@pytest.mark.parametrize('name', sorted(ACTIVATIONS))
def test_activations_keep_unit_variance(name):
    x = np.linspace(-12, 12, 240_001)
    density = np.exp(-(x**2) / 2)
    y = np.float64(ACTIVATIONS[name](jnp.asarray(x, jnp.float32)))
    mean, square = (np.average(z, weights=density) for z in (y, y**2))
    # The released constants are no exact ones: they leave 1.00035 (GELU), 1.00064 (ReLU), 1.00053 (SiLU).
    assert np.sqrt(square - mean**2) == pytest.approx(1.0, abs=7e-4)


def test_squeeze_excite_is_the_formula_with_a_plain_relu():
    x = np.random.default_rng(0).normal(size=(2, 3, 3, 8))
    network = hk.without_apply_rng(hk.transform(lambda y: SqueezeExcite(8, name='se')(y)))
    params = network.init(jax.random.key(3), jnp.asarray(x, jnp.float32))
    w = {k: np.float64(v) for names in params.values() for k, v in names.items()}
    first, second = (params[f'se/~/{name}'] for name in ('linear', 'linear_1'))
    assert first['w'].shape == (8, 4)
    assert w['w'].shape == (4, 8)
    hidden = np.maximum(x.mean((1, 2)) @ np.float64(first['w']) + np.float64(first['b']), 0)
    out = 1 / (1 + np.exp(-(hidden @ np.float64(second['w']) + np.float64(second['b']))))
    actual = network.apply(params, jnp.asarray(x, jnp.float32))
    np.testing.assert_allclose(actual, out[:, None, None, :], rtol=1e-5)


def test_stochastic_depth_drops_whole_examples_and_rescales_nothing():
    def run(drop_rate, is_training):
        network = hk.transform(lambda y: stochastic_depth(y, drop_rate, is_training))
        return np.asarray(network.apply({}, jax.random.key(0), x))

    x = jnp.full((4000, 1, 2, 3), 5.0)
    out = run(0.25, is_training=True)
    kept = out[:, 0, 0, 0] == 5
    np.testing.assert_array_equal(out, np.where(kept[:, None, None, None], x, 0))
    assert kept.mean() == pytest.approx(0.75, abs=0.03)
    np.testing.assert_array_equal(run(0.25, is_training=False), x)
    np.testing.assert_array_equal(run(None, is_training=True), x)
