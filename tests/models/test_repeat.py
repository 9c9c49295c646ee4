"""Stacked blocks, or blocks computed again backwards, against blocks that simply follow one another."""

import jax
import jax.numpy as jnp
import numpy as np
import programs
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


def _values(*, scan=False, predicates=(), stochastic_depth_rate=0.5, **settings):
    """(logits, gradients by name) in training, in float64."""
    network = make_network(5, DEEP, stochastic_depth_rate=stochastic_depth_rate, **settings)
    params = _params(network)
    stacks = stacks_of_alike(params, DEEP.depths, predicates) if scan else NO_STACKS

    def loss(params):
        images = np.random.default_rng(1).normal(size=(4, 32, 32, 3))
        logits = network.apply(params, jax.random.key(3), images, True)['logits']
        return jnp.sum(jnp.sin(logits)), logits

    with jax.enable_x64(True):
        (_, logits), grads = jax.jit(jax.value_and_grad(loss, has_aux=True))(stack(params, stacks))
        return logits, unstack(grads, stacks)


@pytest.fixture(scope='module')
def plain():
    return _values()


@pytest.mark.parametrize('way', WAYS)
def test_logits_gradients_and_what_is_drawn_are_the_same(way, plain):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-9), _values(**way), plain)


def _loss_in(dtype, *, scan=False, remat=False):
    """(loss, gradients, dtypes of what is convolved or multiplied), the network's numbers in a precision."""
    variant = Variant((8,), (3,), 16, 16, 0.0, 0, group_width=2)  # Soon compiled.
    network = make_network(5, variant, stochastic_depth_rate=0.5, remat=remat)
    params = jax.tree.map(np.float32, _params(network))
    stacks = stacks_of_alike(params, variant.depths) if scan else NO_STACKS
    params = jax.tree.map(jnp.asarray, stack(params, stacks))

    def loss(params):
        images = jnp.asarray(np.random.default_rng(1).normal(size=(4, 16, 16, 3)), dtype)
        cast = jax.tree.map(lambda p: p.astype(dtype), params)
        logits = network.apply(cast, jax.random.key(3), images, True)['logits']
        return jnp.sum(jnp.sin(logits.astype(jnp.float32)))

    traced = jax.jit(jax.value_and_grad(loss)).trace(params)
    names = ('conv_general_dilated', 'dot_general')
    factors = {
        (e.primitive.name, str(v.aval.dtype))
        for e in programs.equations(traced.jaxpr.jaxpr)
        if e.primitive.name in names
        for v in e.invars
    }
    value, grads = traced.lower().compile()(params)
    return value, unstack(grads, stacks), factors


def test_in_bfloat16_they_differ_less_than_its_rounding_does_from_float32():
    exact, exact_grads, _ = _loss_in('float32')
    plain, plain_grads, _ = _loss_in('bfloat16')
    repeated, grads, factors = _loss_in('bfloat16', scan=True, remat=True)
    assert factors == {('conv_general_dilated', 'bfloat16'), ('dot_general', 'bfloat16')}
    assert abs(repeated - plain) <= 0.1 * abs(plain - exact)
    distances, roundings = (
        jax.tree.map(lambda a, b: float(np.linalg.norm(a - b)), plain_grads, others)
        for others in (grads, exact_grads)
    )
    for module, names in distances.items():
        for name, distance in names.items():
            assert distance <= roundings[module][name], (module, name)
    assert sum(jax.tree.leaves(distances)) <= 0.1 * sum(jax.tree.leaves(roundings))


def test_the_drop_rate_is_of_consequence(plain):
    assert np.any(_values(stochastic_depth_rate=0.0, scan=True)[0] != plain[0])


def test_a_stage_without_its_first_parameters_is_not_passed_over():
    network = make_network(5, Variant((16, 16), (1, 2), 32, 32, 0.0, 0, group_width=4))
    missing = 'NFNet/~/nf_block_1'
    params = {m: names for m, names in _params(network).items() if not m.startswith(missing)}
    with pytest.raises(ValueError, match=missing):
        network.apply(params, None, jnp.zeros((1, 32, 32, 3)), False)


def test_stacked_blocks_are_one_body():
    network = make_network(5, DEEP)
    params = _params(network)
    params = stack(params, stacks_of_alike(params, DEEP.depths))
    images = jnp.zeros((1, 32, 32, 3))
    program = str(jax.make_jaxpr(lambda p: network.apply(p, None, images, False)['logits'])(params))
    assert program.count('scan[') == 1
    assert 'length=3' in program


def test_a_block_takes_less_memory_with_its_convolutions_alone_and_less_without_its_insides():
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

    convolved = temporary(scan=True)
    assert convolved < 0.7 * temporary(scan=False)
    assert temporary(scan=True, remat=True) < 0.8 * convolved
