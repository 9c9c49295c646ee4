"""The parts of a network, against a list of its blocks."""

import golden_numbers
import jax
import pytest

from nfnets.models.groups import layer_group, layer_groups


@pytest.mark.parametrize(
    ('block', 'stage'),
    [('', 1), ('_1', 2), ('_2', 2), ('_3', 3), ('_8', 3), ('_9', 4), ('_10', 4), ('_11', 4)],
)
def test_the_blocks_of_f0_are_of_the_stages_of_the_paper(block, stage):
    for module in ('', '/~/conv1b', '/~/squeeze_excite/~/linear'):
        assert layer_group(f'NFNet/~/nf_block{block}{module}', (1, 2, 6, 3)) == f'stage{stage}'


@pytest.mark.parametrize(
    ('module', 'group'),
    [
        ('NF_ResNet/~/initial_conv', 'stem'),
        ('NF_ResNet/~/nf_res_block/~/conv0', 'stage1'),
        ('NF_ResNet/~/nf_res_block_2', 'stage2'),
        ('ResNet/~/res_block_3/~/bn0', 'stage2'),
        ('ResNet/~/final_bn', 'head'),
        ('ResNet/~/linear', 'head'),
    ],
)
def test_residual_networks_have_the_same_parts(module, group):
    assert layer_group(module, (2, 2)) == group


def test_stem_and_head_are_what_stands_before_and_after_the_stages():
    groups = layer_groups(golden_numbers.f0_params(), (1, 2, 6, 3))
    modules = {'stem': set(), 'head': set()}
    for path, group in jax.tree.leaves_with_path(groups):
        if group in modules:
            modules[group].add(path[0].key.removeprefix('NFNet/~/'))
    assert modules['stem'] == {'stem_conv0', 'stem_conv1', 'stem_conv2', 'stem_conv3'}
    assert modules['head'] == {'final_conv', 'linear'}
