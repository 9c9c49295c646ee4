"""Stacked or rematerialized blocks, against blocks that simply follow one another."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import programs
import pytest
from pure_nfnet import make_network, nfnet_block, parameter_shapes

from nfnets import Variant
from nfnets.models.param_layout import UNSTACKED, ParamLayout, stack_alike

DEEP = Variant((8,), (4,), group_width=None, second_conv=False)  # Soon compiled, as all here.
THREE = ParamLayout((tuple(map(nfnet_block, (1, 2, 3))),))
TWO = ParamLayout((tuple(map(nfnet_block, (2, 3))),))  # After two that run alone.
WAYS = [{'layout': TWO}, {'layout': TWO, 'remat': True}]


def _params(variant=DEEP):
    shapes = parameter_shapes(make_network(5, variant))
    rng = np.random.default_rng(0)
    return {m: {n: rng.normal(size=s.shape) for n, s in names.items()} for m, names in shapes.items()}


def _loss(params, stochastic_depth_rate=0.5, layout=UNSTACKED, **settings):
    """(loss, logits) in training, of unstacked or stacked parameters."""
    network = make_network(5, DEEP, stochastic_depth_rate=stochastic_depth_rate, layout=layout, **settings)
    images = np.random.default_rng(1).normal(size=(4, 16, 16, 3))
    logits = network.apply(params, jax.random.key(3), images, True)['logits']
    return jnp.sum(jnp.sin(logits)), logits


def _values(layout=UNSTACKED, **settings):
    """(logits, gradients by name) in float64."""

    def values(params):
        loss = lambda params: _loss(params, layout=layout, **settings)  # noqa: E731
        (_, logits), grads = jax.value_and_grad(loss, has_aux=True)(params)
        return logits, grads

    with jax.enable_x64(True):
        logits, grads = jax.jit(values)(layout.stack(_params()))
        return logits, layout.unstack(grads)


@pytest.fixture(scope='module')
def plain():
    return _values()


@pytest.mark.parametrize('way', WAYS, ids=['scan', 'remat'])
def test_logits_gradients_and_what_is_drawn_are_the_same(way, plain):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-9), _values(**way), plain)


def test_the_drop_rate_is_of_consequence(plain):
    with jax.enable_x64(True):
        _, logits = jax.jit(lambda params: _loss(params, stochastic_depth_rate=0.0))(_params())
    assert np.all(np.any(logits != plain[0], axis=0))


def _loss_in(dtype, *, scan=False, remat=False):
    """(loss, gradients, dtypes of what is convolved or multiplied), the network's numbers in a precision."""
    variant = dataclasses.replace(DEEP, depths=(3,))
    params = jax.tree.map(np.float32, _params(variant))
    layout = stack_alike(params, variant.depths) if scan else UNSTACKED
    network = make_network(5, variant, stochastic_depth_rate=0.5, layout=layout, remat=remat)
    params = jax.tree.map(jnp.asarray, layout.stack(params))

    def loss(params):
        images = jnp.asarray(np.random.default_rng(1).normal(size=(4, 16, 16, 3)), dtype)
        cast = jax.tree.map(lambda p: p.astype(dtype), params)
        logits = network.apply(cast, jax.random.key(3), images, True)['logits']
        return jnp.sum(jnp.sin(logits.astype(jnp.float32)))

    traced = jax.jit(jax.value_and_grad(loss)).trace(params)
    factors = {
        (e.primitive.name, str(v.aval.dtype))
        for e in programs.equations(traced.jaxpr.jaxpr)
        if e.primitive.name in programs.PRODUCTS
        for v in e.invars
    }
    value, grads = jax.device_get(traced.lower().compile()(params))
    return value, layout.unstack(grads), factors


def test_in_bfloat16_they_differ_less_than_its_rounding_does_from_float32():
    exact, exact_grads, _ = _loss_in('float32')
    plain, plain_grads, _ = _loss_in('bfloat16')
    scanned, grads, factors = _loss_in('bfloat16', scan=True, remat=True)
    assert factors == {(name, 'bfloat16') for name in programs.PRODUCTS}
    assert abs(scanned - plain) <= 0.1 * abs(plain - exact)
    distances, roundings = (
        jax.tree.map(lambda a, b: float(np.linalg.norm(a - b)), plain_grads, others)
        for others in (grads, exact_grads)
    )
    for module, names in distances.items():
        for name, distance in names.items():
            assert distance <= roundings[module][name], (module, name)
    assert sum(jax.tree.leaves(distances)) <= 0.1 * sum(jax.tree.leaves(roundings))


def _shapes(params, layout):
    network = make_network(5, DEEP, layout=layout)
    return jax.eval_shape(
        lambda params, images: network.apply(params, None, images, False), params, jnp.zeros((1, 16, 16, 3))
    )


@pytest.mark.parametrize(
    ('layout', 'index'), [(UNSTACKED, 1), (UNSTACKED, 2), (UNSTACKED, 3), (TWO, 1), (TWO, 2)]
)
def test_a_block_without_its_parameters_is_not_passed_over(layout, index):
    params = layout.stack(_params())
    missing = nfnet_block(index)
    assert _shapes(params, layout)['logits'].shape == (1, 5)
    with pytest.raises(ValueError, match=missing):
        _shapes({m: names for m, names in params.items() if not m.startswith(missing)}, layout)


@pytest.mark.parametrize(
    ('given', 'expected', 'message'),
    [
        (UNSTACKED, THREE, r'has the shape .* the layout stacks 3 blocks'),
        (TWO, THREE, r'has the shape .* the layout stacks 3 blocks'),
        (THREE, UNSTACKED, 'does not match shape'),  # Of Haiku.
    ],
)
def test_parameters_of_another_layout_than_the_networks_are_refused(given, expected, message):
    with pytest.raises(ValueError, match=message):
        _shapes(given.stack(_params()), expected)


def test_stacked_blocks_are_one_body():
    network = make_network(5, DEEP, layout=THREE)
    images = jnp.zeros((1, 16, 16, 3))
    program = jax.make_jaxpr(lambda p: network.apply(p, None, images, False)['logits'])(
        THREE.stack(_params())
    )
    (scan,) = (e for e in programs.equations(program.jaxpr) if e.primitive.name == 'scan')
    assert scan.params['length'] == 3


def test_initial_parameters_are_unstacked_whatever_the_layout():
    shapes = [parameter_shapes(make_network(5, DEEP, layout=layout)) for layout in (UNSTACKED, THREE)]
    assert shapes[0] == shapes[1]


def test_a_block_takes_less_memory_with_its_convolutions_alone_and_less_without_its_insides():
    # XLA's CPU backend undoes it where blocks are not in a loop.
    deep = Variant((64,), (9,), group_width=None)
    shapes = parameter_shapes(make_network(5, deep))

    def temporary(layout, remat=False):
        network = make_network(5, deep, stochastic_depth_rate=0.0, layout=layout, remat=remat)
        params = jax.eval_shape(layout.stack, shapes)
        images = jax.ShapeDtypeStruct((8, 64, 64, 3), jnp.float32)
        grad = jax.grad(lambda p, x: jnp.sum(network.apply(p, None, x, True)['logits']))
        compiled = jax.jit(grad).lower(params, images).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    stacked = stack_alike(shapes, deep.depths)
    convolved = temporary(stacked)
    assert convolved < 0.7 * temporary(UNSTACKED)
    assert temporary(stacked, remat=True) < 0.8 * convolved
