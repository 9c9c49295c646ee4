"""Blocks compiled once, or computed again backwards, against blocks that simply follow one another."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nfnets import Variant
from nfnets.models.nfnet import make_network, parameter_shapes

DEEP = Variant((8, 16), (1, 4), 32, 32, 0.0, 0, group_width=4)
WAYS = [{'scan': True}, {'remat': True}, {'scan': True, 'remat': True}]


def _params(network):
    shapes = parameter_shapes(network)
    rng = np.random.default_rng(0)
    return {m: {n: rng.normal(size=s.shape) for n, s in names.items()} for m, names in shapes.items()}


def _values(network, key=None):
    """(logits, gradients) in training, in float64."""

    def loss(params):
        images = np.random.default_rng(1).normal(size=(4, 32, 32, 3))
        logits = network.apply(params, key, images, True)['logits']
        return jnp.sum(jnp.sin(logits)), logits

    (_, logits), grads = jax.jit(jax.value_and_grad(loss, has_aux=True))(_params(network))
    return logits, grads


@pytest.mark.parametrize('way', WAYS)
def test_logits_and_gradients_are_the_same(way):
    with jax.enable_x64(True):
        expected = _values(make_network(5, DEEP, stochastic_depth_rate=0.0))
        actual = _values(make_network(5, DEEP, stochastic_depth_rate=0.0, **way))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-9), actual, expected)


def test_every_block_keeps_its_own_drop_rate_where_one_body_serves_all():
    with jax.enable_x64(True):
        key = jax.random.key(3)
        expected = _values(make_network(5, DEEP, stochastic_depth_rate=0.5, remat=True), key)
        actual = _values(make_network(5, DEEP, stochastic_depth_rate=0.5, scan=True), key)
        kept = _values(make_network(5, DEEP, stochastic_depth_rate=0.0), key)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-9), actual, expected)
    assert np.any(actual[0] != kept[0])


def test_a_stage_is_one_body_and_parameters_keep_their_names():
    network = make_network(5, DEEP, scan=True)
    assert parameter_shapes(network) == parameter_shapes(make_network(5, DEEP))
    images = jnp.zeros((1, 32, 32, 3))
    params = network.init(jax.random.key(0), images, False)
    program = str(jax.make_jaxpr(lambda p: network.apply(p, None, images, False)['logits'])(params))
    assert program.count('scan[') == 1
    assert 'length=3' in program


def test_without_its_insides_a_block_takes_less_memory():
    # XLA's CPU backend undoes it where blocks are not in a loop.
    deep = Variant((32, 32), (12, 1), 32, 32, 0.0, 0, group_width=16)

    def temporary(**way):
        network = make_network(5, deep, stochastic_depth_rate=0.0, **way)
        images = jax.ShapeDtypeStruct((8, 64, 64, 3), jnp.float32)
        grad = jax.grad(lambda p, x: jnp.sum(network.apply(p, None, x, True)['logits']))
        compiled = jax.jit(grad).lower(parameter_shapes(network), images).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    assert temporary(scan=True, remat=True) < 0.6 * min(temporary(scan=True), temporary())
