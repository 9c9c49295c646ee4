"""NF-ResNets: the released parameters, and outputs against NumPy in float64."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import numpy_nf_resnet
import pytest
from numpy_layers import random_params

from nfnets.models.networks import make_network, variable_shapes
from nfnets.models.param_layout import UNSTACKED, stack_alike
from nfnets.models.variants import Variant

SMALL = Variant((16, 32), (2, 1), group_width=None)
COUNTS = {'ResNet50': 25_557_048, 'ResNet101': 44_549_193, 'ResNet152': 60_192_858, 'ResNet200': 64_673_898}


def _network(variant, **settings):
    return make_network('NFResNet', 5, variant, **settings)


@pytest.mark.parametrize('variant', COUNTS)
def test_parameters_are_as_many_as_in_the_released_code(variant):
    params, state = variable_shapes(make_network('NFResNet', 1000, variant))
    assert sum(math.prod(p.shape) for p in jax.tree.leaves(params)) == COUNTS[variant]
    assert state == {}


def test_names_and_shapes_are_those_of_the_released_code():
    params = random_params(_network(SMALL, squeeze_excite=True))
    shapes = {f'{m}/{n}': x.shape for m, names in params.items() for n, x in names.items()}
    prefix = 'NF_ResNet/~/'
    assert shapes[f'{prefix}initial_conv/w'] == (7, 7, 3, 4)
    assert shapes[f'{prefix}initial_conv/gain'] == shapes[f'{prefix}initial_conv/bias'] == (4,)
    assert shapes[f'{prefix}nf_res_block/skip_gain'] == ()
    assert shapes[f'{prefix}nf_res_block/~/conv0/w'] == (1, 1, 4, 4)
    assert shapes[f'{prefix}nf_res_block/~/conv_shortcut/w'] == (1, 1, 4, 16)
    assert shapes[f'{prefix}nf_res_block_1/~/conv0/w'] == (1, 1, 16, 4)
    assert shapes[f'{prefix}nf_res_block_2/~/conv1/w'] == (3, 3, 8, 8)
    assert shapes[f'{prefix}nf_res_block_2/~/squeeze_excite/~/linear/w'] == (32, 8)
    assert shapes[f'{prefix}nf_res_block_2/~/squeeze_excite/~/linear_1/b'] == (32,)
    assert shapes[f'{prefix}linear/w'] == (32, 5)
    assert not any('nf_res_block_1/~/conv_shortcut' in name or 'nf_res_block_3' in name for name in shapes)


@pytest.mark.parametrize(
    ('alpha', 'squeeze_excite', 'standardize'), [(0.2, False, True), (1.0, True, True), (0.2, False, False)]
)
@pytest.mark.parametrize('size', [32, 25])
def test_outputs_are_those_of_the_formulas(size, alpha, squeeze_excite, standardize):
    network = _network(SMALL, alpha=alpha, squeeze_excite=squeeze_excite, weight_standardization=standardize)
    params = random_params(network)
    images = np.random.default_rng(1).normal(size=(2, size, size, 3))
    with jax.enable_x64(True):
        out, _ = jax.jit(network.apply, static_argnums=4)(params, {}, None, images, False)
    logits, pool, _, _ = numpy_nf_resnet.forward(
        params, images, SMALL.depths, alpha=alpha, squeeze_excite=squeeze_excite, standardize=standardize
    )
    np.testing.assert_allclose(out['logits'], logits, rtol=1e-9)
    np.testing.assert_allclose(out['pool'], pool, rtol=1e-9)


def test_what_is_random_acts_in_training_alone():
    images = jax.random.normal(jax.random.key(2), (4, 32, 32, 3))
    for settings in ({'dropout_rate': 0.5, 'stochastic_depth_rate': 0.0}, {'stochastic_depth_rate': 0.9}):
        network = _network(SMALL, **settings)
        params = jax.tree.map(jnp.float32, random_params(network))
        apply = jax.jit(network.apply, static_argnums=4)
        first, second = (apply(params, {}, jax.random.key(k), images, True)[0]['logits'] for k in (1, 2))
        assert np.any(first != second)
        first, second = (apply(params, {}, jax.random.key(k), images, False)[0]['logits'] for k in (1, 2))
        np.testing.assert_array_equal(first, second)


def test_stacked_blocks_give_the_same():
    deep = Variant((16, 16), (1, 3), group_width=4)
    images = np.random.default_rng(1).normal(size=(2, 32, 32, 3))
    params = random_params(_network(deep))
    layout = stack_alike(params, deep.depths)
    assert len(layout.stack(params)) < len(params)
    with jax.enable_x64(True):
        expected, actual = (
            jax.jit(_network(deep, layout=way, remat=way != UNSTACKED).apply, static_argnums=4)(
                way.stack(params), {}, None, images, False
            )[0]
            for way in (UNSTACKED, layout)
        )
    np.testing.assert_allclose(actual['logits'], expected['logits'], rtol=1e-9)
