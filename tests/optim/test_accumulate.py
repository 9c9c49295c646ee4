"""Gradients accumulated over parts of a batch, against the formula for all of it in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nfnets.optim.accumulate import accumulated_value_and_grad, every_nth
from nfnets.optim.sam import sam_value_and_grad

X = np.random.default_rng(0).standard_normal((10, 4))
Y = np.random.default_rng(1).standard_normal(10)
PARAMS = {'w': np.array([0.5, -1.0, 2.0, 0.25]), 'b': np.array(0.3)}


def _loss_fn(params, batch, key):
    del key
    error = jnp.abs(batch['x'] @ params['w'] + params['b'] - batch['y'])
    return jnp.mean(error**3), (jnp.mean(error > 1, dtype=error.dtype), {'count': jnp.int32(2**24 + 1)})


def _formula(w, b, x, y):
    """(gradients by w, by b, loss, share of errors above 1) of the mean cubed error."""
    error = x @ w + b - y
    slope = 3 * error * np.abs(error) / len(y)
    return x.T @ slope, slope.sum(), np.mean(np.abs(error) ** 3), np.mean(np.abs(error) > 1)


def _sam_formula(w, b, x, y, chosen):
    """The same at the top of a step of 0.1 up, which the examples chosen point to."""
    u_w, u_b, *_ = _formula(w, b, x[chosen], y[chosen])
    scale = 0.1 / np.sqrt(np.sum(u_w**2) + u_b**2)
    return _formula(w + scale * u_w, b + scale * u_b, x, y)


def _accumulated(value_and_grad, steps):
    """What `_formula` gives."""
    with jax.enable_x64(True):
        function = jax.jit(accumulated_value_and_grad(value_and_grad, steps))
        (loss, (share, state)), grads = function(
            jax.tree.map(jnp.asarray, PARAMS), {'x': X, 'y': Y}, jax.random.key(0)
        )
    assert (state['count'], state['count'].dtype) == (2**24 + 1, jnp.int32)
    assert grads['w'].dtype == jnp.float64
    return grads['w'], grads['b'], loss, share


def _assert_close(actual, expected):
    for a, e in zip(actual, expected, strict=True):
        np.testing.assert_allclose(a, e, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize('steps', [1, 2, 5, 10])
def test_parts_make_up_the_whole_batch(steps):
    expected = _formula(PARAMS['w'], PARAMS['b'], X, Y)
    assert 0 < expected[3] < 1
    _assert_close(_accumulated(jax.value_and_grad(_loss_fn, has_aux=True), steps), expected)


def test_with_sam_every_part_climbs_by_its_own_examples():
    w, b = PARAMS['w'], PARAMS['b']
    parts = [_sam_formula(w, b, X[i::2], Y[i::2], [0, 2]) for i in range(2)]  # 0.4 of 5 examples.
    expected = [np.mean(values, axis=0) for values in zip(*parts, strict=True)]
    sam = sam_value_and_grad(_loss_fn, rho=0.1, ascent_fraction=0.4)
    _assert_close(_accumulated(sam, 2), expected)
    whole, *_ = _sam_formula(w, b, X, Y, [0, 2, 5, 7])
    assert np.abs(whole - expected[0]).max() > 1e-3


def test_every_part_draws_by_a_key_of_its_own():
    def value_and_grad(params, batch, key):
        draw = jax.random.uniform(key) * jax.nn.one_hot(batch[0], 5)  # At the place of the first example.
        return (jnp.float32(0.0), draw), params

    key = jax.random.key(0)
    (_, draws), _ = accumulated_value_and_grad(value_and_grad, 5)(jnp.ones(2), jnp.arange(10), key)
    assert jnp.all(draws > 0)
    assert len({float(draw) for draw in draws}) == 5


def test_one_part_is_the_function_itself():
    value_and_grad = jax.value_and_grad(_loss_fn, has_aux=True)
    assert accumulated_value_and_grad(value_and_grad, 1) is value_and_grad


def test_a_part_is_spread_over_the_batch():
    batch = {'x': jnp.arange(12), 'y': jnp.arange(12)[:, None]}
    parts = [every_nth(batch, start, 3) for start in range(3)]
    assert [part['x'].tolist() for part in parts] == [[0, 3, 6, 9], [1, 4, 7, 10], [2, 5, 8, 11]]
    assert parts[0]['y'].shape == (4, 1)
