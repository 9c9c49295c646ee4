"""Stacked blocks, or blocks computed again backwards, against blocks that simply follow one another."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nfnets import Variant
from nfnets.models.nfnet import make_network, parameter_shapes
from nfnets.models.stacks import NO_STACKS, stack, stacks_of_alike, unstack

DEEP = Variant((8, 16), (1, 4), 32, 32, 0.0, 0, group_width=4)
WAYS = [
    {'scan': True},
    {'scan': True, 'predicates': [lambda module, name: module.endswith('nf_block_2/~/conv0')]},
    {'remat': True},
    {'scan': True, 'remat': True},
]


def _params(network):
    shapes = parameter_shapes(network)
    rng = np.random.default_rng(0)
    return {m: {n: rng.normal(size=s.shape) for n, s in names.items()} for m, names in shapes.items()}


def _values(key=None, *, scan=False, predicates=(), **settings):
    """(logits, gradients by name) in training, in float64."""
    network = make_network(5, DEEP, **settings)
    params = _params(network)
    stacks = stacks_of_alike(params, DEEP.depths, predicates) if scan else NO_STACKS

    def loss(params):
        images = np.random.default_rng(1).normal(size=(4, 32, 32, 3))
        logits = network.apply(params, key, images, True)['logits']
        return jnp.sum(jnp.sin(logits)), logits

    (_, logits), grads = jax.jit(jax.value_and_grad(loss, has_aux=True))(stack(params, stacks))
    return logits, unstack(grads, stacks)


@pytest.mark.parametrize('way', WAYS)
def test_logits_and_gradients_are_the_same(way):
    with jax.enable_x64(True):
        expected = _values(stochastic_depth_rate=0.0)
        actual = _values(stochastic_depth_rate=0.0, **way)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-9), actual, expected)


@pytest.mark.parametrize('way', WAYS)
def test_every_block_keeps_its_drop_rate_and_its_draws(way):
    with jax.enable_x64(True):
        key = jax.random.key(3)
        expected = _values(key, stochastic_depth_rate=0.5)
        actual = _values(key, stochastic_depth_rate=0.5, **way)
        kept = _values(key, stochastic_depth_rate=0.0)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-9), actual, expected)
    assert np.any(actual[0] != kept[0])


def test_stacked_blocks_are_one_body():
    network = make_network(5, DEEP)
    images = jnp.zeros((1, 32, 32, 3))
    params = network.init(jax.random.key(0), images, False)
    params = stack(params, stacks_of_alike(params, DEEP.depths))
    program = str(jax.make_jaxpr(lambda p: network.apply(p, None, images, False)['logits'])(params))
    assert program.count('scan[') == 1
    assert 'length=3' in program


def test_without_its_insides_a_block_takes_less_memory():
    # XLA's CPU backend undoes it where blocks are not in a loop.
    deep = Variant((32, 32), (12, 1), 32, 32, 0.0, 0, group_width=16)

    def temporary(scan, remat=False):
        network = make_network(5, deep, stochastic_depth_rate=0.0, remat=remat)
        params = parameter_shapes(network)
        stacks = stacks_of_alike(params, deep.depths) if scan else NO_STACKS
        params = jax.eval_shape(lambda params: stack(params, stacks), params)
        images = jax.ShapeDtypeStruct((8, 64, 64, 3), jnp.float32)
        grad = jax.grad(lambda p, x: jnp.sum(network.apply(p, None, x, True)['logits']))
        compiled = jax.jit(grad).lower(params, images).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    assert temporary(scan=True, remat=True) < 0.6 * min(temporary(scan=True), temporary(scan=False))
