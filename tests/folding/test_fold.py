"""Folded networks, run by NumPy in float64, against the networks themselves."""

import dataclasses
from collections import Counter

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy_operations import NumPy

from nfnets.data.augment import normalize
from nfnets.errors import InputError
from nfnets.folding.fold import fold
from nfnets.folding.run import apply, run
from nfnets.models.networks import NETWORKS, make_network, variable_shapes
from nfnets.models.variants import NORMALIZER_FREE, Variant

SMALL = Variant((16, 32), (1, 2), group_width=4)
SIZE = 36  # The grid of a second stage is odd, so that its shortcut's pool has windows cut off.


def _network(name, variant=SMALL, seed=0, **settings):
    """A network, and variables none of which is at its initial value."""
    network = make_network(name, 10, variant, **settings)
    rng = np.random.default_rng(seed)
    draw = lambda s: np.float32(rng.normal(0.2, 0.3, s.shape))  # noqa: E731
    params, state = jax.tree.map(draw, variable_shapes(network))
    return network, (params, jax.tree.map(lambda x: np.abs(x) + np.float32(0.1), state))


def _logits(network, variables, pixels):
    apply = jax.jit(network.apply, static_argnums=4)
    return np.asarray(apply(*variables, None, normalize(jnp.asarray(pixels)), False)[0]['logits'])


def _pixels(size=SIZE):
    return np.random.default_rng(1).integers(0, 256, (3, size, size, 3), np.uint8)


def _assert_close(actual, expected):
    assert np.max(np.abs(actual - expected)) < 3e-6 * np.max(np.abs(expected))


@pytest.mark.parametrize(
    ('name', 'settings'),
    [
        *((name, {}) for name in NETWORKS),
        ('NFResNet', {'squeeze_excite': True, 'activation': 'gelu'}),
        ('NFResNet', {'weight_standardization': False}),
        ('NFNet', {'remat': True}),  # As the config of a large run says.
    ],
)
def test_a_folded_network_gives_the_logits_of_the_network(name, settings):
    network, variables = _network(name, **settings)
    expected = _logits(network, variables, _pixels())
    graph = fold(network, variables, SIZE, from_pixels=True)
    _assert_close(run(graph, NumPy(), _pixels()), expected)
    assert {'FixupResNet', 'ResNet', 'BNNet'} >= ({name} if 'affine' in _ops(graph) else set())


@pytest.mark.parametrize(
    ('name', 'variant'),
    [
        ('NFNet', 'nfnet_l0'),
        ('NFNet', 'eca_nfnet_l0'),
        ('NFRegNet', 'nf_regnet_b1'),
        ('NFResNet', 'nf_resnet50'),
    ],
)
def test_a_folded_network_of_timms_gives_the_logits_of_the_network(name, variant):
    small = dataclasses.replace(NORMALIZER_FREE[variant], widths=(16, 32), depths=(1, 2), group_width=4)
    network, variables = _network(name, small)
    graph = fold(network, variables, SIZE, from_pixels=True)
    _assert_close(run(graph, NumPy(), _pixels()), _logits(network, variables, _pixels()))
    logits = jax.jit(lambda arrays, images: apply(graph, arrays, images))(graph.arrays(), _pixels())
    _assert_close(logits, _logits(network, variables, _pixels()))
    assert 'affine' not in _ops(graph)


def test_it_takes_normalized_images_as_the_network_does():
    network, variables = _network('NFNet')
    graph = fold(network, variables, SIZE, from_pixels=False)
    images = np.asarray(normalize(jnp.asarray(_pixels())))
    _assert_close(run(graph, NumPy(), images), _logits(network, variables, _pixels()))


def _ops(graph):
    return Counter(node.op for node in graph.nodes)


@pytest.mark.parametrize('is_plain', [True, False])
def test_jax_runs_it_with_either_form_of_convolution(is_plain):
    network, variables = _network('NFNet')
    graph = fold(network, variables, SIZE, from_pixels=True)
    logits = jax.jit(lambda arrays, images: apply(graph, arrays, images, is_plain=is_plain))
    _assert_close(logits(graph.arrays(), _pixels()), _logits(network, variables, _pixels()))
    kinds = str(jax.make_jaxpr(logits)(graph.arrays(), _pixels()))
    assert ('conv_general_dilated' in kinds) == is_plain


@pytest.mark.parametrize('gain', [0.0, 1e-39, 1e-6])
def test_a_branch_that_is_scaled_to_nothing_stays_out(gain):
    network, (params, state) = _network('NFNet')
    for names in params.values():
        if 'skip_gain' in names:
            names['skip_gain'] = np.float32(gain)
    graph = fold(network, (params, state), SIZE, from_pixels=True)
    _assert_close(run(graph, NumPy(), _pixels()), _logits(network, (params, state), _pixels()))


def test_only_what_a_network_is_made_of_is_left():
    network, variables = _network('NFNet', Variant((16, 32), (2, 3), group_width=8))
    # Stem, blocks with squeeze-excite as two linear layers, shortcuts, the last one, the classifier.
    convolutions = 4 + 5 * (4 + 2) + 2 + 1 + 1
    assert _ops(fold(network, variables, 32, from_pixels=True)) == {
        'convolve': convolutions,
        'activate': 3 + 5 * (4 + 2) + 1,
        'mean': 5 + 1,
        'pool': 1,
        'multiply': 5,
        'add': 5,
    }


def test_rounding_refuses_what_a_dtype_cannot_hold():
    network, (params, state) = _network('NFNet')
    graph = fold(network, (params, state), SIZE, from_pixels=False)
    assert {x.dtype.name for arrays in graph.astype('bfloat16').arrays() for x in arrays.values()} == {
        'bfloat16'
    }
    params['NFNet/~/linear']['w'] = params['NFNet/~/linear']['w'] + np.float32(1e6)
    graph = fold(network, (params, state), SIZE, from_pixels=False)
    with pytest.raises(InputError, match=r'float16 cannot hold a kernel of up to 1\.\d+e\+06'):
        graph.astype('float16')


def test_images_of_another_size_are_refused():
    network, variables = _network('NFNet')
    graph = fold(network, variables, SIZE, from_pixels=True)
    with pytest.raises(ValueError, match='not 36'):
        apply(graph, graph.arrays(), jnp.zeros((1, 32, 32, 3)))


@pytest.mark.parametrize(
    'operation', [jnp.sin, lambda x: x - x[:, ::-1], lambda x: x * jnp.arange(8.0)[None, :, None, None]]
)
def test_a_network_with_something_unknown_is_refused(operation):
    def forward(images, is_training):
        return {'logits': jnp.mean(operation(images), axis=(1, 2))}

    with pytest.raises(InputError, match='cannot be folded'):
        fold(hk.transform_with_state(forward), ({}, {}), 8, from_pixels=False)
