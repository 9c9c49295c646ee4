"""Sharpness-aware gradients against the formula in float64 and against optax's own transformation."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import optax.contrib
import pytest

from nfnets.optim.sam import sam_value_and_grad, spread_part

X = np.random.default_rng(0).standard_normal((10, 4))
Y = np.random.default_rng(1).standard_normal(10)
PARAMS = {'w': np.array([0.5, -1.0, 2.0, 0.25]), 'b': np.array(0.3)}


def _loss_fn(params, batch, power):
    error = jnp.abs(batch['x'] @ params['w'] + params['b'] - batch['y'])
    return jnp.mean(error**power), (error, {'mean': jnp.mean(error)})


def _value_and_grad(**settings):
    return jax.jit(sam_value_and_grad(_loss_fn, **settings), static_argnums=2)


def _formula(w, b, x, y):
    """Gradient of the mean cubed error."""
    error = x @ w + b - y
    slope = 3 * error * np.abs(error) / len(y)
    return x.T @ slope, slope.sum()


@pytest.mark.parametrize(('fraction', 'part'), [(1.0, np.arange(10)), (0.2, [0, 5]), (0.01, [0])])
def test_gradients_are_those_at_the_top_of_the_step_up(fraction, part):
    with jax.enable_x64(True):
        value_and_grad = _value_and_grad(rho=0.1, ascent_fraction=fraction)
        values, grads = value_and_grad(jax.tree.map(jnp.asarray, PARAMS), {'x': X, 'y': Y}, 3)
    (loss, (error, state)) = values
    u_w, u_b = _formula(PARAMS['w'], PARAMS['b'], X[part], Y[part])
    norm = np.sqrt(np.sum(u_w**2) + u_b**2)
    w, b = PARAMS['w'] + 0.1 * u_w / norm, PARAMS['b'] + 0.1 * u_b / norm
    g_w, g_b = _formula(w, b, X, Y)
    np.testing.assert_allclose(grads['w'], g_w, rtol=1e-9)
    np.testing.assert_allclose(grads['b'], g_b, rtol=1e-9)
    np.testing.assert_allclose(loss, np.mean(np.abs(X @ w + b - Y) ** 3), rtol=1e-9)
    np.testing.assert_allclose(error, np.abs(X @ w + b - Y), rtol=1e-9)
    # The state is that of the first pass.
    before = np.abs(X[part] @ PARAMS['w'] + PARAMS['b'] - Y[part])
    np.testing.assert_allclose(state['mean'], np.mean(before), rtol=1e-9)


def test_an_update_is_that_of_optax():
    rho, rate = 0.1, 0.01
    batch = {'x': jnp.asarray(X, jnp.float32), 'y': jnp.asarray(Y, jnp.float32)}
    params = jax.tree.map(lambda p: jnp.asarray(p, jnp.float32), PARAMS)
    _, grads = _value_and_grad(rho=rho, ascent_fraction=1.0)(params, batch, 3)

    def grad_fn(params, _):
        return jax.grad(_loss_fn, has_aux=True)(params, batch, 3)[0]

    climb = optax.chain(optax.contrib.normalize(), optax.sgd(rho))
    optimizer = optax.contrib.sam(optax.sgd(rate), climb, opaque_mode=True)
    update = jax.jit(
        lambda params: optimizer.update(grad_fn(params, 0), optimizer.init(params), params, grad_fn=grad_fn)
    )
    updates, _ = update(params)
    np.testing.assert_allclose(updates['w'], -rate * grads['w'], rtol=1e-5)
    np.testing.assert_allclose(updates['b'], -rate * grads['b'], rtol=1e-5)


def test_without_a_step_up_it_is_jaxs_own():
    batch = {'x': jnp.asarray(X), 'y': jnp.asarray(Y)}
    params = jax.tree.map(jnp.asarray, PARAMS)
    expected = jax.jit(jax.value_and_grad(_loss_fn, has_aux=True), static_argnums=2)(params, batch, 2)
    actual = _value_and_grad(rho=0.0, ascent_fraction=0.2)(params, batch, 2)
    jax.tree.map(np.testing.assert_array_equal, actual, expected)


def test_a_zero_gradient_leaves_the_parameters_where_they_are():
    params = jax.tree.map(jnp.asarray, PARAMS)
    batch = {'x': jnp.asarray(X), 'y': jnp.asarray(X) @ params['w'] + params['b']}
    (loss, _), grads = _value_and_grad(rho=0.1, ascent_fraction=1.0)(params, batch, 3)
    assert loss == 0.0
    assert all(jnp.all(g == 0.0) for g in jax.tree.leaves(grads))


@pytest.mark.parametrize(
    ('size', 'fraction', 'indices'), [(32, 0.2, [0, 5, 10, 16, 21, 26]), (4, 0.2, [0]), (3, 1.0, [0, 1, 2])]
)
def test_the_part_is_spread_over_the_batch(size, fraction, indices):
    part = spread_part({'x': jnp.arange(size), 'y': jnp.arange(size)[:, None]}, fraction)
    assert part['x'].tolist() == indices
    assert part['y'].shape == (len(indices), 1)
