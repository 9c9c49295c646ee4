"""Stacked parameters against a list of F0's blocks, and against NumPy."""

import golden_numbers
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import imagenet
from nfnets import build
from nfnets.config import complete
from nfnets.models.networks import NETWORKS, make_network, variable_shapes
from nfnets.models.stacks import is_stacked, stack, stacks_of_alike, unstack

DEPTHS = (1, 2, 6, 3)  # F0's.
SIZES = {'num_examples': 1_281_167, 'num_classes': 1000, 'num_devices': 8}  # ImageNet's.
INSIDE = ['conv0', 'conv1', 'conv1b', 'conv2', 'squeeze_excite/~/linear', 'squeeze_excite/~/linear_1']


def _blocks(stacks):
    """The numbers of the blocks that are stacked, by what stands for them."""
    modules = [
        tuple(int(m.rsplit('_', 1)[1]) for m in all_) for m, all_ in stacks.items() if m.count('~') == 1
    ]
    assert len(stacks) == len(modules) * (1 + len(INSIDE))
    return sorted(modules)


def test_of_f0_all_but_the_first_blocks_of_stages_are_stacked():
    stacks = stacks_of_alike(golden_numbers.f0_params(), DEPTHS)
    assert _blocks(stacks) == [(4, 5, 6, 7, 8), (10, 11)]
    for inside in INSIDE:
        expected = tuple(f'NFNet/~/nf_block_{index}/~/{inside}' for index in (10, 11))
        assert stacks[expected[0]] == expected


def test_what_is_treated_in_another_way_is_not_stacked():
    frozen = ('nf_block_5/~/conv1', 'nf_block_6/~/conv1', 'nf_block_11')

    def is_frozen(module, name):
        return module.endswith(frozen) and name != 'gain'

    stacks = stacks_of_alike(golden_numbers.f0_params(), DEPTHS, [lambda module, name: True, is_frozen])
    assert _blocks(stacks) == [(5, 6), (7, 8)]


@pytest.mark.parametrize('key', ['freeze', 'agc_skip'])
def test_a_config_that_treats_a_block_in_its_own_way_stacks_the_others(key):
    config = imagenet.get_config('F0')
    config.model.scan = True
    config.optimizer[key] = f'{config.optimizer[key]}|nf_block_5/~/conv1/'.removeprefix('|')
    config = complete(config, **SIZES)
    assert _blocks(build.stacks(config)) == [(6, 7, 8), (10, 11)]
    assert not build.stacks(complete(imagenet.get_config('F0'), **SIZES))


@pytest.mark.parametrize('as_array', [np.asarray, jnp.asarray])
def test_blocks_are_joined_in_order_and_come_apart_again(as_array):
    arrays = {f'N/~/block_{i}': {'w': np.full((2, 3), i, np.float32), 'g': np.float32(i)} for i in range(4)}
    params = jax.tree.map(as_array, {**arrays, 'N/~/linear': {'w': np.ones(3)}})
    stacks = stacks_of_alike(params, [4])
    stacked = stack(params, stacks)
    assert sorted(stacked) == ['N/~/block_0', 'N/~/block_1', 'N/~/linear']
    np.testing.assert_array_equal(stacked['N/~/block_1']['g'], [1, 2, 3])
    np.testing.assert_array_equal(stacked['N/~/block_1']['w'][:, 1, 2], [1, 2, 3])
    assert is_stacked(stacked, stacks) == {
        'N/~/block_0': {'w': False, 'g': False},
        'N/~/block_1': {'w': True, 'g': True},
        'N/~/linear': {'w': False},
    }
    apart = unstack(stacked, stacks)
    assert jax.tree.structure(apart) == jax.tree.structure(params)
    jax.tree.map(np.testing.assert_array_equal, apart, params)
    assert isinstance(jax.tree.leaves(stacked)[0], type(jax.tree.leaves(params)[0]))


@pytest.mark.parametrize('name', [name for name, kind in NETWORKS.items() if kind.can_repeat])
def test_every_network_that_can_repeat_has_blocks_to_stack(name):
    variant = next(iter(NETWORKS[name].variants.values()))
    shapes, _ = variable_shapes(make_network(name, 10, variant))
    stacks = stacks_of_alike(shapes, variant.depths)
    blocks = {modules for module, modules in stacks.items() if module.count('~') == 2}
    lengths = sorted({len(modules) for modules in blocks})
    assert lengths == sorted({depth - 1 for depth in variant.depths if depth > 2})
