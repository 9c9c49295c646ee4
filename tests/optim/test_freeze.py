"""Which parameters a pattern freezes, and what is said of one that cannot be meant."""

import pytest

from nfnets.errors import InputError
from nfnets.optim.freeze import check_pattern, frozen_by

NAMES = [
    'NFNet/~/stem_conv0/w',
    'NFNet/~/nf_block/skip_gain',
    'NFNet/~/nf_block_1/~/conv1/w',
    'NFNet/~/linear/b',
]


@pytest.mark.parametrize(
    ('pattern', 'frozen'),
    [
        ('', []),
        ('stem', NAMES[:1]),
        ('stem|nf_block/', NAMES[:2]),
        (r'nf_block(_\d+)?/', NAMES[1:3]),
        ('/w$', [NAMES[0], NAMES[2]]),
        ('^(?!.*linear)', NAMES[:3]),
    ],
)
def test_a_pattern_freezes_where_it_is_found(pattern, frozen):
    is_frozen = frozen_by(pattern)
    assert [name for name in NAMES if is_frozen(*name.rsplit('/', 1))] == frozen
    check_pattern('optimizer.freeze', pattern, NAMES)


@pytest.mark.parametrize(
    ('pattern', 'told'),
    [
        ('stem(', r'stem\( is no regular expression'),
        ('head', 'is found in no parameter; there are NFNet/~/stem_conv0/w'),
        ('NFNet', 'all 4 parameters: none would be left'),
    ],
)
def test_a_pattern_that_cannot_be_meant_is_refused(pattern, told):
    with pytest.raises(InputError, match=told):
        check_pattern('optimizer.freeze', pattern, NAMES)
