"""Stacked parameters against a list of F0's blocks, and against NumPy."""

import types

import golden_numbers
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from pure_nfnet import nfnet_block

from nfnets import build
from nfnets.config import complete
from nfnets.configs import imagenet
from nfnets.data.imagenet import NUM_CLASSES, NUM_TRAIN_IMAGES
from nfnets.models.networks import NETWORKS, make_network, variable_shapes
from nfnets.models.param_layout import UNSTACKED, ParamLayout, stack_alike

DEPTHS = (1, 2, 6, 3)  # F0's.
SIZES = {'num_examples': NUM_TRAIN_IMAGES, 'num_classes': NUM_CLASSES, 'num_devices': 8}


@pytest.fixture(scope='module')
def f0():
    """The shapes of F0's parameters, without values."""
    params = {}
    for name, shape in golden_numbers.f0_shapes().items():
        module, _, name = name.rpartition('/')
        params.setdefault(module, {})[name] = types.SimpleNamespace(shape=tuple(shape))
    return params


def _layout(*blocks):
    """Of an NFNet whose blocks of these numbers are stacked."""
    return ParamLayout(tuple(tuple(map(nfnet_block, run)) for run in blocks))


def test_of_f0_all_but_the_first_blocks_of_stages_are_stacked(f0):
    assert stack_alike(f0, DEPTHS) == _layout((4, 5, 6, 7, 8), (10, 11))


def test_what_is_treated_in_another_way_is_not_stacked(f0):
    frozen = ('nf_block_5/~/conv1/w', 'nf_block_6/~/conv1/w', 'nf_block_11/skip_gain')
    layout = stack_alike(f0, DEPTHS, [lambda name: True, lambda name: name.endswith(frozen)])
    assert layout == _layout((5, 6), (7, 8))


def test_blocks_of_other_shapes_are_not_stacked():
    sizes = (1, 2, 2, 2, 3, 3)
    params = {f'N/~/block_{i}/~/conv': {'w': np.zeros(size)} for i, size in enumerate(sizes)}
    expected = (('N/~/block_1', 'N/~/block_2', 'N/~/block_3'), ('N/~/block_4', 'N/~/block_5'))
    assert stack_alike(params, [6]).runs == expected


@pytest.mark.parametrize('key', ['freeze', 'agc_skip'])
def test_a_config_that_treats_a_block_in_its_own_way_stacks_the_others(key):
    config = imagenet.get_config('F0')
    config.model.scan = True
    config.optimizer[key] = f'{config.optimizer[key]}|nf_block_5/~/conv1/'.removeprefix('|')
    assert build.param_layout(complete(config, **SIZES)) == _layout((6, 7, 8), (10, 11))
    assert build.param_layout(complete(imagenet.get_config('F0'), **SIZES)) == UNSTACKED


@pytest.mark.parametrize('as_array', [np.asarray, jnp.asarray])
def test_blocks_are_stacked_in_order_and_unstacked_again(as_array):
    arrays = {f'N/~/block_{i}': {'w': np.full((2, 3), i, np.float32), 'g': np.float32(i)} for i in range(4)}
    params = jax.tree.map(as_array, {**arrays, 'N/~/linear': {'w': np.ones(3)}})
    layout = stack_alike(params, [4])
    stacked = layout.stack(params)
    assert sorted(stacked) == ['N/~/block_0', 'N/~/block_1', 'N/~/linear']
    np.testing.assert_array_equal(stacked['N/~/block_1']['g'], [1, 2, 3])
    np.testing.assert_array_equal(stacked['N/~/block_1']['w'][:, 1, 2], [1, 2, 3])
    # As the leaves are, with a name for each block of those that are stacked.
    names = {'N/~/block_0': ['g', 'w'], 'N/~/block_1': ['g', 'w'], 'N/~/linear': ['w']}
    assert [layout.is_stacked(f'{m}/{n}') for m in names for n in names[m]] == [0, 0, 1, 1, 0]
    own = [f'N/~/block_{i}/{n}' for n in 'gw' for i in (1, 2, 3)]
    assert layout.names(stacked) == ['N/~/block_0/g', 'N/~/block_0/w', *own, 'N/~/linear/w']
    apart = layout.unstack(stacked)
    assert jax.tree.structure(apart) == jax.tree.structure(params)
    jax.tree.map(np.testing.assert_array_equal, apart, params)
    assert isinstance(jax.tree.leaves(stacked)[0], type(jax.tree.leaves(params)[0]))


def test_a_module_in_a_stacked_block_is_stacked_under_the_name_of_the_first():
    params = {f'N/~/block_{i}/~/se/~/linear': {'b': np.float32(i)} for i in range(3)}
    layout = ParamLayout((('N/~/block_1', 'N/~/block_2'),))
    assert layout.run_of('N/~/block_1') == ('N/~/block_1', 'N/~/block_2')
    assert layout.run_of('N/~/block') == ('N/~/block',)
    stacked = layout.stack(params)
    assert stacked.keys() == {'N/~/block_0/~/se/~/linear', 'N/~/block_1/~/se/~/linear'}
    np.testing.assert_array_equal(stacked['N/~/block_1/~/se/~/linear']['b'], [1, 2])
    assert layout.is_stacked('N/~/block_1/~/se/~/linear/b')
    assert layout.unstack(stacked) == params


def test_without_stacks_nothing_changes():
    params = {'N/~/block_1': {'w': np.ones(2)}, 'N/~/linear': {'w': np.ones(3)}}
    for changed in (UNSTACKED.stack(params), UNSTACKED.unstack(params)):
        assert changed.keys() == params.keys()
        assert all(changed[module]['w'] is params[module]['w'] for module in params)
    assert UNSTACKED.names(params) == ['N/~/block_1/w', 'N/~/linear/w']
    assert not UNSTACKED.is_stacked('N/~/block_1/w')


@pytest.mark.parametrize('name', [name for name, kind in NETWORKS.items() if kind.can_scan])
def test_every_network_that_can_scan_has_blocks_to_stack(name):
    variant = next(iter(NETWORKS[name].variants.values()))
    shapes, _ = variable_shapes(make_network(name, 10, variant))
    layout = stack_alike(shapes, variant.depths)
    assert [len(run) for run in layout.runs] == [depth - 1 for depth in variant.depths if depth > 2]
    stacked = layout.stack(jax.tree.map(lambda s: np.broadcast_to(np.float32(0), s.shape), shapes))
    assert len(layout.names(stacked)) == len(jax.tree.leaves(shapes))
