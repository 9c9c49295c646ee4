"""An NFNet as a pair of functions without state: init, and apply(params, key, images, is_training)."""

import functools

import haiku as hk
import jax
import jax.numpy as jnp

from nfnets.models.networks import shapes_of
from nfnets.models.nfnet import NFNet
from nfnets.models.param_names import FIRST_BLOCKS, block_module


def make_network(num_classes, variant='F0', **settings):
    return hk.transform(
        lambda images, is_training: NFNet(num_classes, variant, **settings)(images, is_training)
    )


def init_params(network, key):
    return network.init(key, jnp.zeros((1, 32, 32, 3), jnp.float32), False)


def parameter_shapes(network):
    """{module: {name: shape and dtype}}; nothing is computed."""
    return shapes_of(functools.partial(init_params, network), jax.random.key(0))


def nfnet_block(index):
    """The module of a block, counted from 0 through the network."""
    return block_module(FIRST_BLOCKS['NFNet'], index)
