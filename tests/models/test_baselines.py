"""SkipInit and Fixup ResNets: outputs against NumPy in float64, and how they start."""

import math

import jax
import numpy as np
import pytest
from numpy_layers import convolved, linear, max_pooled, random_params

from nfnets.models.networks import init_variables, make_network, variable_shapes
from nfnets.models.variants import Variant

SMALL = Variant((16, 32), (2, 1), group_width=None)
PREFIX = {'SkipInitResNet': 'SkipInit_ResNet', 'FixupResNet': 'FixUp_ResNet'}


def _relu(x):
    return np.maximum(x, 0)


def _skipinit_block(params, block, x, stride, is_first):
    def conv(name, x, stride=1):
        p = params[f'{block}/~/{name}']
        return convolved(x, p['w'], stride) + p['b']

    h = _relu(x)
    shortcut = conv('conv_shortcut', h, stride) if is_first else x
    h = conv('conv2', _relu(conv('conv1', _relu(conv('conv0', h)), stride)))
    return shortcut + params[block]['skip_gain'] * h


def _fixup_block(params, block, x, stride, is_first):
    def conv(name, x, stride=1):
        return convolved(x, params[f'{block}/~/{name}']['w'], stride)

    p = params[block]
    h = x + p['bias1a']
    shortcut = conv('conv_shortcut', h, stride) if is_first else h
    h = _relu(conv('conv0', h) + p['bias1b'])
    h = _relu(conv('conv1', h + p['bias2a'], stride) + p['bias2b'])
    return _relu(shortcut + conv('conv2', h + p['bias3a']) * p['scale'] + p['bias3b'])


def _forward(name, params, x):
    is_fixup = name == 'FixupResNet'
    top = params.get(PREFIX[name], {})
    params = {m.removeprefix(f'{PREFIX[name]}/~/'): names for m, names in params.items()}
    out = convolved(x, params['initial_conv']['w'], 2)
    out = max_pooled(_relu(out + top['bias1']) if is_fixup else out, 3, 2)
    block, step = ('res_block', _fixup_block) if is_fixup else ('nf_res_block', _skipinit_block)
    out = step(params, block, out, 1, True)
    out = step(params, f'{block}_1', out, 1, False)
    out = step(params, f'{block}_2', out, 2, True)
    pool = (out if is_fixup else _relu(out)).mean((1, 2))
    return linear(params['linear'], pool + (top['bias2'] if is_fixup else 0)), pool


@pytest.mark.parametrize('name', PREFIX)
@pytest.mark.parametrize('size', [32, 25])
def test_outputs_are_those_of_the_formulas(name, size):
    network = make_network(name, 5, SMALL)
    params = random_params(network)
    images = np.random.default_rng(1).normal(size=(2, size, size, 3))
    with jax.enable_x64(True):
        out, _ = jax.jit(network.apply, static_argnums=4)(params, {}, None, images, False)
    logits, pool = _forward(name, params, images)
    np.testing.assert_allclose(out['logits'], logits, rtol=1e-9)
    np.testing.assert_allclose(out['pool'], pool, rtol=1e-9)


def test_parameters_are_those_of_nf_resnet_50_less_what_normalizes_weights():
    stages = zip((256, 512, 1024, 2048), (3, 4, 6, 3), strict=True)
    channels = 64 + sum(depth * (width // 4 + width // 4 + width) + width for width, depth in stages)
    nf_resnet, blocks = 25_557_048, 16
    expected = {
        'SkipInitResNet': nf_resnet - channels - 64,  # No gains, and no bias in the stem.
        'FixupResNet': nf_resnet - 2 * channels - blocks + 7 * blocks + 2,  # Scalars.
    }
    for name, count in expected.items():
        params, _ = variable_shapes(make_network(name, 1000, 'ResNet50'))
        assert sum(math.prod(p.shape) for p in jax.tree.leaves(params)) == count


def _start(name, variant, blocks):
    """Initial parameters of these blocks and the classifier; all others would take long to compile."""
    network = make_network(name, 10, variant)

    @jax.jit
    def start(key):
        params, _ = init_variables(network, key)
        short = {module.removeprefix(f'{PREFIX[name]}/~/'): names for module, names in params.items()}
        return {m: names for m, names in short.items() if m.split('/')[0] in (*blocks, 'linear')}

    return jax.device_get(start(jax.random.key(0)))


def test_skipinit_starts_after_he_with_closed_branches():
    blocks = ('nf_res_block', 'nf_res_block_1', 'nf_res_block_2')
    params = _start('SkipInitResNet', Variant((64, 256), (1, 2), group_width=None), blocks)
    for block in blocks:
        assert params[block]['skip_gain'] == 0
    for conv in ('conv0', 'conv1', 'conv2'):
        w = params[f'nf_res_block_2/~/{conv}']['w']
        assert w.var() == pytest.approx(2 / math.prod(w.shape[:3]), rel=0.05)
        assert not params[f'nf_res_block_2/~/{conv}']['b'].any()
    assert not params['linear']['w'].any()


def test_fixup_starts_smaller_the_more_blocks_there_are():
    variant = Variant((64, 256), (1, 15), group_width=None)
    params = _start('FixupResNet', variant, ('res_block_1', 'res_block_2'))
    # 16 blocks: half the deviation; over the outputs, as its authors have it.
    for conv in ('conv0', 'conv1'):
        w = params[f'res_block_2/~/{conv}']['w']
        assert w.var() == pytest.approx(2 / math.prod((*w.shape[:2], w.shape[3])) / 4, rel=0.05)
    shortcut = params['res_block_1/~/conv_shortcut']['w']
    assert shortcut.var() == pytest.approx(2 / 256, rel=0.05)
    assert not params['res_block_2/~/conv2']['w'].any()
    assert params['res_block_2']['scale'] == 1
    assert not any(value for name, value in params['res_block_2'].items() if name.startswith('bias'))
    assert not params['linear']['w'].any()
