"""The batch-normalized ResNet against Haiku's own, with the same parameters."""

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy_layers import random_params

from nfnets.models.networks import make_network, variable_shapes
from nfnets.models.resnet import batch_norm, batch_normalize
from nfnets.models.variants import Variant

SMALL = Variant((16, 32, 32, 64), (2, 1, 1, 2), group_width=None)
# Names of our modules in Haiku's.
RENAMED = {'bn': 'batchnorm_', 'conv0': 'conv_0', 'conv1': 'conv_1', 'conv2': 'conv_2'}


def _haikus_own(is_training):
    def forward(images):
        network = hk.nets.ResNet(
            SMALL.depths,
            5,
            resnet_v2=True,
            channels_per_group=SMALL.widths,
            initial_conv_config={'output_channels': SMALL.widths[0] // 4},
        )
        return network(images, is_training)

    return hk.transform_with_state(forward)


def _renamed(tree):
    """A tree by the names of Haiku's ResNet."""
    blocks = [f'block_group_{g}/~/block_{i}' for g, depth in enumerate(SMALL.depths) for i in range(depth)]
    renamed = {}
    for module, values in tree.items():
        name = (
            module.removeprefix('ResNet/~/')
            .replace('linear', 'logits')
            .replace('final_bn', 'final_batchnorm')
        )
        if name.startswith('res_block'):
            block, _, rest = name.partition('/~/')
            number = int(block.removeprefix('res_block').removeprefix('_') or 0)
            rest = rest.replace('conv_shortcut', 'shortcut_conv')
            for own, other in RENAMED.items():
                rest = rest.replace(own, other)
            name = f'{blocks[number]}/~/{rest}'
        renamed[f'res_net/~/{name}'] = values
    return renamed


@pytest.mark.parametrize('is_training', [True, False])
def test_logits_and_statistics_are_those_of_haikus_resnet(is_training):
    rng = np.random.default_rng(0)
    with jax.enable_x64(True):
        images = jnp.asarray(rng.normal(size=(4, 64, 64, 3)))
        network = make_network('ResNet', 5, SMALL)
        shapes = jax.eval_shape(lambda key: network.init(key, images, False), jax.random.key(0))
        params = jax.tree.map(lambda s: jnp.asarray(rng.normal(1.0, 0.5, s.shape)), shapes[0])
        state = jax.tree.map(lambda s: jnp.asarray(rng.uniform(1.0, 2.0, s.shape), s.dtype), shapes[1])
        out, after = jax.jit(network.apply, static_argnums=4)(params, state, None, images, is_training)
        expected, expected_after = jax.jit(_haikus_own(is_training).apply)(
            _renamed(params), _renamed(state), None, images
        )
        jax.tree.map(
            lambda a, e: np.testing.assert_allclose(a, e, rtol=1e-9), _renamed(after), dict(expected_after)
        )
    np.testing.assert_allclose(out['logits'], expected, rtol=1e-9)
    changed = [np.any(a != b) for a, b in zip(*map(jax.tree.leaves, (state, after)), strict=True)]
    assert all(changed) if is_training else not any(changed)


def test_statistics_are_in_float32_whatever_the_network_is():
    # Of a mean of 100 and a deviation of 0.1 nothing would be left in bfloat16.
    def forward(x, is_training):
        return batch_normalize(batch_norm('bn'), x, is_training)

    network = hk.transform_with_state(forward)
    x = (100 + jax.random.normal(jax.random.key(0), (64, 8, 8, 2))).astype(jnp.bfloat16)
    params, state = network.init(jax.random.key(0), x, False)
    out, state = jax.jit(network.apply, static_argnums=4)(params, state, None, x, True)
    assert out.dtype == jnp.bfloat16
    assert {leaf.dtype for leaf in jax.tree.leaves(state)} == {jnp.dtype('float32'), jnp.dtype('int32')}
    wide = np.float64(x)
    np.testing.assert_allclose(state['bn/~/var_ema']['average'].ravel(), wide.var((0, 1, 2)), rtol=2e-2)
    np.testing.assert_allclose(np.float64(out).std((0, 1, 2)), 1, rtol=2e-2)


def test_stochastic_depth_leaves_out_branches_in_training_alone():
    small = Variant((16,), (3,), group_width=None)
    network = make_network('ResNet', 5, small, stochastic_depth_rate=0.9)
    params = jax.tree.map(np.float32, random_params(network))
    state = jax.tree.map(lambda s: np.ones(s.shape, s.dtype), variable_shapes(network)[1])
    images = jax.random.normal(jax.random.key(2), (4, 32, 32, 3))
    apply = jax.jit(network.apply, static_argnums=4)
    first, second = (apply(params, state, jax.random.key(k), images, True)[0]['pool'] for k in (1, 2))
    assert np.any(first != second)
    first, second = (apply(params, state, jax.random.key(k), images, False)[0]['pool'] for k in (1, 2))
    np.testing.assert_array_equal(first, second)
