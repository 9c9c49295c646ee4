"""NF-ResNets: the released parameters, and outputs against NumPy in float64."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy_layers import convolved, linear, max_pooled, random_params, squeezed, standardized

from nfnets.models.networks import make_network, variable_shapes
from nfnets.variants import Variant

SMALL = Variant((16, 32), (2, 1), 32, 32, 0.0, 0, group_width=None)
GAMMA = 1.7139588594436646
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


def _forward(params, x, depths, alpha, squeeze_excite, standardize):
    """Logits and pooled features, from the formulas."""
    params = {m.removeprefix('NF_ResNet/~/'): names for m, names in params.items()}

    def act(x):
        return np.maximum(x, 0) * (GAMMA if standardize else 1)

    def conv(name, x, stride=1):
        p = params[name]
        if standardize:
            return convolved(x, standardized(p['w'], p['gain']), stride) + p['bias']
        return convolved(x, p['w'], stride) + p['b']

    out = max_pooled(conv('initial_conv', x, 2), 3, 2)
    index, variance = 0, 1.0
    for stage, depth in enumerate(depths):
        for number in range(depth):
            block = f'nf_res_block_{index}' if index else 'nf_res_block'
            stride = 2 if stage and number == 0 else 1
            h = act(out) / np.sqrt(variance)
            shortcut = conv(f'{block}/~/conv_shortcut', h, stride) if number == 0 else out
            h = conv(f'{block}/~/conv0', h)
            h = conv(f'{block}/~/conv1', act(h), stride)
            h = conv(f'{block}/~/conv2', act(h))
            if squeeze_excite:
                se = f'{block}/~/squeeze_excite/~/linear'
                h = 2 * h * squeezed(params[se], params[f'{se}_1'], h)
            out = shortcut + alpha * params[block]['skip_gain'] * h
            variance = (1.0 if number == 0 else variance) + alpha**2
            index += 1
    pool = act(out).mean((1, 2))
    return linear(params['linear'], pool), pool


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
    logits, pool = _forward(params, images, SMALL.depths, alpha, squeeze_excite, standardize)
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


def test_blocks_compiled_once_give_the_same():
    deep = Variant((16, 16), (3, 1), 32, 32, 0.0, 0, group_width=4)
    images = np.random.default_rng(1).normal(size=(2, 32, 32, 3))
    with jax.enable_x64(True):
        params = random_params(_network(deep))
        expected, actual = (
            jax.jit(_network(deep, **way).apply, static_argnums=4)(params, {}, None, images, False)[0]
            for way in ({}, {'scan': True, 'remat': True})
        )
    np.testing.assert_allclose(actual['logits'], expected['logits'], rtol=1e-9)
