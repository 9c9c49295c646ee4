"""Names of parameters and what follows from them, against lists written by hand."""

import golden_numbers
import numpy as np
import pytest
from pure_nfnet import nfnet_block

from nfnets.errors import InputError
from nfnets.models.param_names import (
    all_but,
    check_pattern,
    found_by,
    is_classifier,
    layer_group,
    map_names,
    split_block,
)

NAMES = [
    'NFNet/~/stem_conv0/w',
    'NFNet/~/nf_block/skip_gain',
    'NFNet/~/nf_block_1/~/conv1/w',
    'NFNet/~/linear/b',
]


def test_a_property_of_names_becomes_a_tree_like_the_parameters():
    params = {'Net/~/conv': {'w': np.ones((3, 3)), 'b': np.ones(3)}, 'Net': {'gain': np.ones(())}}
    assert map_names(lambda name: name, params) == {
        'Net/~/conv': {'w': 'Net/~/conv/w', 'b': 'Net/~/conv/b'},
        'Net': {'gain': 'Net/gain'},
    }


# ---- Blocks and parts of a network


@pytest.mark.parametrize(
    ('name', 'parts'),
    [
        ('NFNet/~/nf_block_3/~/conv1/w', (3, 'NFNet/~/nf_block_3', '~/conv1/w')),
        ('NFNet/~/nf_block/skip_gain', (0, 'NFNet/~/nf_block', 'skip_gain')),
        ('NFNet/~/nf_block_12', (12, 'NFNet/~/nf_block_12', '')),
        ('ResNet/~/res_block_2/~/bn0/scale', (2, 'ResNet/~/res_block_2', '~/bn0/scale')),
        ('N/~/block_1/w', (1, 'N/~/block_1', 'w')),
        ('NFNet/~/blocked/w', None),
        ('NFNet/~/final_conv/w', None),
    ],
)
def test_a_name_in_a_block_is_split(name, parts):
    assert split_block(name) == parts


def test_blocks_of_an_nfnet_are_counted_from_one_without_a_number():
    blocks = {f'NFNet/~/{name}' for name in ('nf_block', *(f'nf_block_{i}' for i in range(1, 12)))}
    assert {nfnet_block(index) for index in range(12)} == blocks
    assert blocks <= {name.rpartition('/')[0] for name in golden_numbers.f0_shapes()}


@pytest.mark.parametrize(
    ('block', 'stage'),
    [('', 1), ('_1', 2), ('_2', 2), ('_3', 3), ('_8', 3), ('_9', 4), ('_10', 4), ('_11', 4)],
)
def test_the_blocks_of_f0_are_of_the_stages_of_the_paper(block, stage):
    for module in ('', '/~/conv1b', '/~/squeeze_excite/~/linear', '/~/conv0/w', '/skip_gain'):
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
    modules = {'stem': set(), 'head': set()}
    for name in golden_numbers.f0_shapes():
        group = layer_group(name, (1, 2, 6, 3))
        if group in modules:
            modules[group].add(name.removeprefix('NFNet/~/').rpartition('/')[0])
    assert modules['stem'] == {'stem_conv0', 'stem_conv1', 'stem_conv2', 'stem_conv3'}
    assert modules['head'] == {'final_conv', 'linear'}


def test_the_classifier_of_f0_is_its_last_linear_layer():
    found = [name for name in golden_numbers.f0_shapes() if is_classifier(name)]
    assert sorted(found) == ['NFNet/~/linear/b', 'NFNet/~/linear/w']
    assert is_classifier('NFNet/~/linear')
    assert not is_classifier('NFNet/~/linear_1')


# ---- Patterns


@pytest.mark.parametrize(
    ('pattern', 'found'),
    [
        ('', []),
        ('stem', NAMES[:1]),
        ('stem|nf_block/', NAMES[:2]),
        (r'nf_block(_\d+)?/', NAMES[1:3]),
        ('/w$', [NAMES[0], NAMES[2]]),
        ('^(?!.*linear)', NAMES[:3]),
    ],
)
def test_a_pattern_stands_for_the_names_that_it_is_found_in(pattern, found):
    assert list(filter(found_by(pattern), NAMES)) == found
    assert list(filter(all_but(pattern), NAMES)) == [name for name in NAMES if name not in found]
    check_pattern('optimizer.freeze', pattern, NAMES)


@pytest.mark.parametrize(
    ('pattern', 'message'),
    [
        ('stem(', r'stem\( is no regular expression'),
        ('head', 'is found in no parameter; there are NFNet/~/stem_conv0/w'),
        ('NFNet', 'all 4 parameters: none would be left'),
    ],
)
def test_a_pattern_that_cannot_be_meant_is_refused(pattern, message):
    with pytest.raises(InputError, match=f'^optimizer.freeze=.*{message}'):
        check_pattern('optimizer.freeze', pattern, NAMES)
