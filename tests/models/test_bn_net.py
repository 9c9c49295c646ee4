"""The NFNet's batch-normalized twin, and the NFNet without its second convolutions, against NumPy."""

import math

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy_layers import average_pooled, convolved, linear, random_params, squeezed, standardized

from nfnets.models.networks import make_network, variable_shapes
from nfnets.models.variants import Variant

GROUP_WIDTH = 8
VARIANTS = {
    second_conv: Variant((32, 48), (1, 2), group_width=GROUP_WIDTH, second_conv=second_conv)
    for second_conv in (True, False)
}
STRIDES = (2, 1, 1, 2)  # Of the stem.
GAMMA = 1.7015043497085571  # Of the GELU.


def _gelu(x):
    return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


class _BatchNormalized:
    def __init__(self, params, state, is_training):
        self.params, self.state, self.is_training = params, state, is_training
        self.statistics = {}

    def conv(self, name, x, stride=1, groups=1):
        return convolved(x, self.params[name]['w'], stride, groups)

    def act(self, norm, x):
        mean, variance = x.mean((0, 1, 2)), x.var((0, 1, 2))
        self.statistics[norm] = mean, variance
        if not self.is_training:
            mean, variance = (
                np.float64(self.state[f'{norm}/~/{which}_ema']['average']).ravel()
                for which in ('mean', 'var')
            )
        p = self.params[norm]
        return _gelu((x - mean) / np.sqrt(variance + 1e-5) * p['scale'].ravel() + p['offset'].ravel())


class _NormalizerFree:
    def __init__(self, params):
        self.params = params

    def conv(self, name, x, stride=1, groups=1):
        p = self.params[name]
        return convolved(x, standardized(p['w'], p['gain']), stride, groups) + p['bias']

    def act(self, norm, x):
        return GAMMA * _gelu(x)


def _forward(net, x, second_conv, *, is_free):
    """Logits and pooled features of two stages of one and two blocks."""
    out = net.conv('stem_conv0', x, STRIDES[0])
    for i, stride in enumerate(STRIDES[1:]):
        out = net.conv(f'stem_conv{i + 1}', net.act(f'stem_bn{i}', out), stride)
    variance = 1.0
    for number, (width, stride, is_transition) in enumerate(((32, 1, True), (48, 2, True), (48, 1, False))):
        block = ('nf_block' if is_free else 'bn_block') + (f'_{number}' if number else '')
        h = net.act(f'{block}/~/bn_in', out) / (math.sqrt(variance) if is_free else 1)
        pooled = average_pooled(h, stride, stride) if stride > 1 else h
        shortcut = net.conv(f'{block}/~/conv_shortcut', pooled) if is_transition else out
        h = net.act(f'{block}/~/bn_conv0', net.conv(f'{block}/~/conv0', h))
        groups = width // 2 // GROUP_WIDTH
        h = net.act(f'{block}/~/bn_conv1', net.conv(f'{block}/~/conv1', h, stride, groups))
        if second_conv:
            h = net.act(f'{block}/~/bn_conv1b', net.conv(f'{block}/~/conv1b', h, 1, groups))
        h = net.conv(f'{block}/~/conv2', h)
        se = f'{block}/~/squeeze_excite/~/linear'
        h = h * squeezed(net.params[se], net.params[f'{se}_1'], h)
        out = shortcut + h * (0.2 * 2 * net.params[block]['skip_gain'] if is_free else 1)
        variance = (1.0 if is_transition else variance) + 0.04
    pool = net.act('final_bn', net.conv('final_conv', out)).mean((1, 2))
    return linear(net.params['linear'], pool), pool


def _variables(network):
    params = random_params(network)
    _, shapes = variable_shapes(network)
    rng = np.random.default_rng(2)
    return params, jax.tree.map(lambda s: rng.uniform(1.0, 2.0, s.shape).astype(s.dtype), shapes)


def _short(tree, name):
    return {module.removeprefix(f'{name}/~/'): values for module, values in tree.items()}


@pytest.mark.parametrize('second_conv', [True, False])
@pytest.mark.parametrize('is_training', [True, False])
def test_a_batch_normalized_network_is_that_of_the_formulas(second_conv, is_training):
    network = make_network('BNNet', 5, VARIANTS[second_conv], dropout_rate=0.0, stochastic_depth_rate=0.0)
    params, state = _variables(network)
    images = np.random.default_rng(1).normal(size=(3, 32, 32, 3))
    with jax.enable_x64(True):
        out, after = jax.jit(network.apply, static_argnums=4)(
            params, state, None, jnp.asarray(images), is_training
        )
    net = _BatchNormalized(_short(params, 'BNNet'), _short(state, 'BNNet'), is_training)
    logits, pool = _forward(net, images, second_conv, is_free=False)
    np.testing.assert_allclose(out['pool'], pool, rtol=1e-6)
    np.testing.assert_allclose(out['logits'], logits, rtol=1e-6)
    if is_training:
        for norm, (mean, variance) in net.statistics.items():
            for which, value in (('mean', mean), ('var', variance)):
                held, before = (
                    tree[f'BNNet/~/{norm}/~/{which}_ema']['hidden'].ravel() for tree in (after, state)
                )
                np.testing.assert_allclose(held, 0.9 * before + 0.1 * value, rtol=1e-5)
    else:
        jax.tree.map(np.testing.assert_array_equal, hk.data_structures.to_mutable_dict(after), state)


def test_an_nfnet_without_second_convolutions_is_that_of_the_formulas():
    network = make_network('NFNet', 5, VARIANTS[False], stochastic_depth_rate=0.0)
    params = random_params(network)
    images = np.random.default_rng(1).normal(size=(3, 32, 32, 3))
    with jax.enable_x64(True):
        out, _ = jax.jit(network.apply, static_argnums=4)(params, {}, None, jnp.asarray(images), False)
    logits, pool = _forward(_NormalizerFree(_short(params, 'NFNet')), images, False, is_free=True)
    np.testing.assert_allclose(out['pool'], pool, rtol=1e-6)
    np.testing.assert_allclose(out['logits'], logits, rtol=1e-6)
    assert not any('conv1b' in module for module in params)


def test_the_twin_has_the_nfnets_weights_and_normalization_in_place_of_gains_and_biases():
    nfnet, bn_net = (variable_shapes(make_network(name, 1000, 'F0'))[0] for name in ('NFNet', 'BNNet'))

    def weights(params):
        return sorted(x['w'].shape for module, x in params.items() if 'w' in x)

    assert weights(nfnet) == weights(bn_net)
    assert not any({'gain', 'bias', 'skip_gain'} & set(values) for values in bn_net.values())
    # Before the activations of the stem, of each of 12 blocks, and of the head.
    assert sum('scale' in values for values in bn_net.values()) == 3 + 12 * 4 + 1
