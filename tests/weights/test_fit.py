"""Which network parameters are of, and what is reported where they do not fit."""

import golden_numbers
import jax
import numpy as np
import pytest
from pure_nfnet import make_network, parameter_shapes

from nfnets import VARIANTS, Variant
from nfnets.errors import InputError
from nfnets.weights.fit import architecture, check_params

TINY = Variant((32, 64), (1, 2), group_width=16)


def _shapes(variant='F0', num_classes=1000):
    return parameter_shapes(make_network(num_classes, variant))


def _tiny():
    return jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), _shapes(TINY, 3))


def test_the_released_names_and_shapes_are_those_of_f0():
    shapes = {f'{m}/{n}': list(x.shape) for m, names in _shapes().items() for n, x in names.items()}
    assert shapes == golden_numbers.f0_shapes()
    check_params(golden_numbers.f0_params(), _shapes(), 'F0.npz')


# The others differ from these in depth alone.
@pytest.mark.parametrize('name', ['F0', 'F3', 'F7', 'F0+', 'F4+'])
def test_a_variant_is_recognized_by_its_shapes(name):
    found = architecture(_shapes(name, 7))
    assert (found.name, found.variant, found.num_classes) == (name, VARIANTS[name], 7)
    assert str(found) == f'{name} with 7 classes'


def test_a_network_of_ones_own_is_recognized():
    found = architecture(_tiny())
    assert found.name is None
    assert (found.variant.widths, found.variant.depths, found.variant.group_width) == ((32, 64), (1, 2), 16)
    assert str(found) == 'a network of widths (32, 64), depths (1, 2) and group width 16 with 3 classes'


def test_what_is_no_nfnet_has_no_architecture():
    assert architecture({}) is None
    assert architecture({'ResNet/~/conv': {'w': np.zeros((1, 1, 3, 3))}}) is None
    assert architecture({'NFNet/~/nf_block': {'skip_gain': np.zeros(())}}) is None


def test_another_variant_is_named():
    with pytest.raises(InputError) as error:
        check_params(golden_numbers.f0_params(), _shapes('F1'), 'F0.npz')
    message = str(error.value)
    assert message.startswith(
        'F0.npz does not fit the network: it holds F0 with 1000 classes, for --config.model.variant=F0'
    )
    assert 'Missing: NFNet/~/nf_block_12/skip_gain' in message
    assert 'Unexpected: NFNet/~/nf_block_1/~/conv_shortcut/bias' in message
    assert (
        'Of another shape or type: NFNet/~/nf_block_1/~/conv0/bias float32[256], not float32[128]' in message
    )


def test_another_number_of_classes_is_named():
    with pytest.raises(InputError, match=r'for --config\.model\.num_classes=3\. Of another shape') as error:
        check_params(_tiny(), _shapes(TINY, 5), 'x.npz')
    assert 'Missing' not in str(error.value)


def test_a_network_of_other_widths_is_named():
    with pytest.raises(InputError) as error:
        check_params(_tiny(), _shapes(), 'x.npz')
    settings = "--config.model.widths='(32,64)' --config.model.depths='(1,2)' --config.model.group_width=16"
    assert settings in str(error.value)


def test_missing_left_over_and_mistyped_names_are_listed():
    params = _tiny()
    params['NFNet/~/stem_conv0']['biass'] = params['NFNet/~/stem_conv0'].pop('bias')
    with pytest.raises(InputError) as error:
        check_params(params, _shapes(TINY, 3), 'x.npz')
    assert 'Missing: NFNet/~/stem_conv0/bias.' in str(error.value)
    assert 'NFNet/~/stem_conv0/biass (for NFNet/~/stem_conv0/bias?)' in str(error.value)


def test_another_type_is_listed():
    params = _tiny()
    params['NFNet/~/linear']['b'] = params['NFNet/~/linear']['b'].astype(np.float64)
    with pytest.raises(InputError, match=r'NFNet/~/linear/b float64\[3\], not float32\[3\]'):
        check_params(params, _shapes(TINY, 3), 'x.npz')
