"""Derivatives of a whole network, forward and of second order, against differences in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from pure_nfnet import make_network, parameter_shapes

from nfnets import Variant
from nfnets.models.param_layout import UNSTACKED, stack_alike

VARIANT = Variant((8,), (3,), group_width=None, second_conv=False)
STACKED = stack_alike(parameter_shapes(make_network(5, VARIANT)), VARIANT.depths)
STEP = 1e-5


def _drawn(seed, center):
    """Parameters, or a direction in them."""
    rng = np.random.default_rng(seed)
    shapes = parameter_shapes(make_network(5, VARIANT))
    return {m: {n: rng.normal(center, 0.5, s.shape) for n, s in x.items()} for m, x in shapes.items()}


PARAMS, DIRECTION = _drawn(0, 0.5), _drawn(1, 0.0)


def _loss(params, layout):
    network = make_network(5, VARIANT, layout=layout, stochastic_depth_rate=0.0)
    images = np.random.default_rng(2).normal(size=(2, 8, 8, 3))
    logits = network.apply(params, None, images, True)['logits']
    return jnp.mean(jnp.sum(jnp.sin(logits), axis=1))


def _moved(few):
    """The parameters, with these values added to the blocks' skip gains, and to the classifier's bias."""
    params = {module: dict(names) for module, names in PARAMS.items()}
    for index, module in enumerate(sorted(m for m, names in params.items() if 'skip_gain' in names)):
        params[module]['skip_gain'] = params[module]['skip_gain'] + few[index]
    params['NFNet/~/linear']['b'] = params['NFNet/~/linear']['b'] + few[3:]
    return params


FEW = 3 + 5


@pytest.fixture(scope='module')
def differences():
    """(derivative along DIRECTION, that of the gradient, Hessian by `_moved`), of values and gradients."""

    @jax.jit
    def value_and_gradients(few, along):
        params = jax.tree.map(lambda p, d: p + along * d, PARAMS, DIRECTION)
        value, grads = jax.value_and_grad(_loss)(params, UNSTACKED)
        return value, grads, jax.grad(lambda few: _loss(_moved(few), UNSTACKED))(few)

    def difference(few, along):
        up, down = (jax.device_get(value_and_gradients(few * sign, along * sign)) for sign in (STEP, -STEP))
        return jax.tree.map(lambda a, b: (a - b) / (2 * STEP), up, down)

    with jax.enable_x64(True):
        value, grads, _ = difference(np.zeros(FEW), 1.0)
        hessian = [difference(row, 0.0)[2] for row in np.eye(FEW)]
    return value, grads, np.stack(hessian)


def test_they_are_those_of_differences_though_blocks_are_stacked(differences):
    def derivatives(params, direction):
        loss = lambda params: _loss(params, STACKED)  # noqa: E731
        of_few = lambda few: loss(STACKED.stack(_moved(few)))  # noqa: E731
        _, tangent = jax.jvp(loss, (params,), (direction,))
        gradients, curvature = jax.jvp(jax.grad(loss), (params,), (direction,))
        return tangent, gradients, curvature, jax.hessian(of_few)(jnp.zeros(FEW))

    with jax.enable_x64(True):
        tangent, gradients, curvature, hessian = jax.device_get(
            jax.jit(derivatives)(STACKED.stack(PARAMS), STACKED.stack(DIRECTION))
        )
    expected_tangent, expected_curvature, expected_hessian = differences
    np.testing.assert_allclose(tangent, expected_tangent, rtol=1e-6)
    slopes = jax.tree.map(np.vdot, STACKED.unstack(gradients), DIRECTION)
    np.testing.assert_allclose(sum(jax.tree.leaves(slopes)), expected_tangent, rtol=1e-6)
    np.testing.assert_allclose(hessian, expected_hessian, rtol=1e-5, atol=1e-7)
    assert np.abs(hessian[:3, :3]).min() > 1e-4  # Blocks act on each other.
    curvature = STACKED.unstack(curvature)
    largest = max(np.abs(x).max() for x in jax.tree.leaves(expected_curvature))
    for module, names in expected_curvature.items():
        for name, value in names.items():
            np.testing.assert_allclose(
                curvature[module][name], value, rtol=1e-4, atol=1e-7 * largest, err_msg=f'{module}/{name}'
            )
