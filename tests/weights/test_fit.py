"""Which network parameters are of, and what is reported where they do not fit."""

import dataclasses

import golden_numbers
import jax
import numpy as np
import pytest
from pure_nfnet import make_network, parameter_shapes

from nfnets import VARIANTS, Variant
from nfnets.errors import InputError
from nfnets.models import networks
from nfnets.models.networks import NETWORKS, variable_shapes
from nfnets.models.variants import NFNETS
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


LIGHT = dataclasses.replace(NFNETS['eca_nfnet_l0'], widths=(32, 64), depths=(1, 2), group_width=8)


def test_of_ones_own_network_the_blocks_are_those_of_the_named_one_that_has_such():
    found = architecture(_shapes(LIGHT, 3))
    assert (found.name, found.base, found.network, found.variant) == (None, 'eca_nfnet_l0', 'NFNet', LIGHT)
    shape = 'a network of widths (32, 64), depths (1, 2) and group width 8'
    assert str(found) == f'{shape}, with the blocks of eca_nfnet_l0, with 3 classes'
    unknown = dataclasses.replace(LIGHT, features_ratio=3.0)
    assert architecture(_shapes(unknown, 3)) is None


@pytest.mark.parametrize(('network', 'name'), [('NFResNet', 'nf_resnet50'), ('NFRegNet', 'B0')])
def test_files_hold_other_normalizer_free_networks_too(network, name):
    variant = NETWORKS[network].variants[name]
    shapes, _ = variable_shapes(networks.make_network(network, 7, variant))
    assert architecture(shapes) == (name, variant, 7, network, name)
    own = dataclasses.replace(variant, widths=(32, 64), depths=(1, 2), group_width=8)
    shapes, _ = variable_shapes(networks.make_network(network, 7, own))
    found = architecture(shapes)
    assert (found.name, found.variant) == (None, own)
    with pytest.raises(InputError) as error:
        check_params(_tiny(), shapes, 'x.npz')
    assert '--config.model.name=NFNet' in str(error.value)


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


def test_blocks_of_another_kind_are_named_by_a_variant_that_has_them():
    held = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), _shapes(LIGHT, 3))
    with pytest.raises(InputError) as error:
        check_params(held, _shapes(TINY, 3), 'x.npz')
    settings = "--config.model.variant=eca_nfnet_l0 --config.model.widths='(32,64)'"
    assert settings in str(error.value)


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
