"""timm's names, layouts and logits; `scripts/benchmarks/compare_timm.py --save` wrote timm's numbers."""

import importlib.util
import json
import zipfile
from pathlib import Path

import golden_numbers
import jax
import numpy as np
import pytest
from numpy_layers import standardized
from pure_nfnet import make_network, parameter_shapes

from nfnets import VARIANTS, Variant
from nfnets.errors import InputError
from nfnets.models import networks
from nfnets.models.networks import variable_shapes
from nfnets.weights.fit import architecture, check_params
from nfnets.weights.pickles import Refused
from nfnets.weights.timm import from_timm, to_timm
from nfnets.weights.torch_files import read_torch_legacy, read_torch_zip


def _module(path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


compare_timm = _module(Path(__file__).resolve().parents[2] / 'scripts' / 'benchmarks' / 'compare_timm.py')
torch_files = _module(golden_numbers.DIRECTORY / 'torch_files.py')


def _zeros(variant):
    """Parameters of a variant that take no memory."""
    shapes = parameter_shapes(make_network(1000, variant))
    return jax.tree.map(lambda x: np.broadcast_to(np.zeros((), x.dtype), x.shape), shapes)


@pytest.fixture(scope='module')
def timm_f0():
    """(state_dict, logits) of timm's F0."""
    golden = golden_numbers.load('timm_F0.npz')
    shapes = json.loads(str(golden['shapes']))
    return {n: compare_timm.random_value(n, tuple(s)) for n, s in shapes.items()}, golden['logits']


def test_timms_weights_give_timms_logits_in_our_network(timm_f0):
    state_dict, logits = timm_f0
    ours = compare_timm.our_logits(state_dict, 'F0', compare_timm.random_images(96))
    assert golden_numbers.relative_error(ours, logits) < 1e-5


def test_our_parameters_have_timms_names_and_shapes(timm_f0):
    converted = to_timm(golden_numbers.f0_params())
    assert {n: x.shape for n, x in converted.items()} == {n: x.shape for n, x in timm_f0[0].items()}


def test_there_and_back_is_the_same_bit_by_bit():
    params = golden_numbers.f0_params()
    back = from_timm(to_timm(params))
    assert back.keys() == params.keys()
    for module, names in params.items():
        for name, value in names.items():
            np.testing.assert_array_equal(back[module][name], value, strict=True)


# ---- timm's own networks


OWN = [name for name in compare_timm.KINDS if name[0] != 'F']


def _timms_shapes(variant):
    """Of the whole network, by timm's names."""
    shapes = json.loads(str(golden_numbers.load(f'timm_{variant}.npz')['shapes']))
    return {name: tuple(shape) for name, shape in shapes.items()}


def _small(variant):
    """Timm's state_dict of a small network with the blocks of its own."""
    shapes, _ = variable_shapes(
        networks.make_network(
            compare_timm.KINDS[variant], compare_timm.SMALL_CLASSES, compare_timm.small_variant(variant)
        )
    )
    names = to_timm(jax.tree.map(lambda x: np.ones(x.shape, x.dtype), shapes))
    return {name: compare_timm.random_value(name, value.shape) for name, value in names.items()}


@pytest.mark.parametrize('variant', ['nfnet_l0', 'eca_nfnet_l0', 'nf_regnet_b1', 'nf_resnet50'])
def test_with_the_blocks_of_timms_own_networks_logits_are_timms(variant):
    golden = golden_numbers.load(f'timm_{variant}.npz')
    state_dict, own = _small(variant), compare_timm.small_variant(variant)
    images = compare_timm.random_images(48)  # Halves stay even: paddings differ.
    ours = compare_timm.logits(state_dict, compare_timm.KINDS[variant], own, images)
    assert golden_numbers.relative_error(ours, golden['logits']) < 1e-5


@pytest.mark.parametrize('variant', OWN)
def test_timms_own_networks_have_timms_names_and_shapes_and_are_known_by_them(variant):
    zeros = {n: np.broadcast_to(np.float32(0), s) for n, s in _timms_shapes(variant).items()}
    params = from_timm(zeros)
    found = architecture(params)
    kind = compare_timm.KINDS[variant]
    assert found == (variant, networks.NETWORKS[kind].variants[variant], 1000, kind, variant)
    expected, _ = variable_shapes(networks.make_network(kind, 1000, variant))
    check_params(params, expected, 'x')
    assert {n: x.shape for n, x in to_timm(params).items()} == _timms_shapes(variant)


@pytest.mark.parametrize('variant', ['nfnet_l0', 'eca_nfnet_l0', 'nf_regnet_b1', 'nf_resnet50'])
def test_timms_own_values_are_the_same_but_for_the_rounding_of_gains_and_classifier(variant):
    state_dict = _small(variant)
    # Kernels that training left almost nothing of, and one of zeros.
    state_dict['stages.1.1.conv1.weight'] *= np.float32(1e-6)
    state_dict['stages.1.1.conv3.weight'][:] = 0
    params = from_timm(state_dict)
    activation = compare_timm.small_variant(variant).activation
    back = to_timm(params, activation)
    assert back.keys() == state_dict.keys()
    for name, value in state_dict.items():
        if name.endswith('.gain') or name == 'head.fc.weight':
            np.testing.assert_allclose(back[name], value, rtol=2.5e-7)
        else:
            np.testing.assert_array_equal(back[name], value, strict=True)
    again = from_timm(back)
    for name, value in golden_numbers.flat(params).items():
        np.testing.assert_allclose(golden_numbers.flat(again)[name], value, rtol=2.5e-7)


def test_a_kernel_of_any_size_is_the_one_that_timm_standardizes():
    state_dict = _small('nf_resnet50')
    state_dict['stages.1.1.conv1.weight'] *= np.logspace(-7, 1, 32, dtype=np.float32)[:, None, None, None]
    params = from_timm(state_dict)
    for module, timms, gamma in (
        ('nf_res_block_2/~/conv0', 'stages.1.1.conv1', 1.0),  # Our activations have the gamma.
        ('nf_res_block/~/conv1', 'stages.0.0.conv2', 1.0),
        ('initial_conv', 'stem.conv', 1.7139588594436646),
    ):
        w, gain = np.float64(state_dict[f'{timms}.weight']), np.float64(state_dict[f'{timms}.gain'])
        mean, variance = w.mean((1, 2, 3), keepdims=True), w.var((1, 2, 3), keepdims=True)
        expected = gamma * gain * (w - mean) / np.sqrt((variance + 1e-5) * np.prod(w.shape[1:]))
        ours = standardized(**{n: params[f'NF_ResNet/~/{module}'][n] for n in ('w', 'gain')})
        np.testing.assert_allclose(ours, expected.transpose(2, 3, 1, 0), rtol=1e-6)


def test_networks_that_timm_has_otherwise_are_refused_in_both_directions():
    state_dict = _small('nfnet_l0')
    wider = {**state_dict, 'final_conv.weight': np.zeros((256, 128, 1, 1), np.float32)}  # As in nfnet_f0.
    with pytest.raises(Refused, match="none of timm's dm_nfnet_f0"):
        from_timm(wider)
    with pytest.raises(Refused, match=r'stages\.0\.0\.attn_last\.fc1\.bias.* is no parameter'):
        from_timm({**_small('nf_resnet50'), 'stages.0.0.attn_last.fc1.bias': np.zeros(4)})
    with pytest.raises(InputError, match="timm's nfnet_l0 has the activation silu, not gelu"):
        to_timm(from_timm(state_dict), activation='gelu')
    shapes, _ = variable_shapes(networks.make_network('NFResNet', 3, Variant((8,), (1,), None)))
    with pytest.raises(InputError, match='timm has no NFResNet such as a network of widths'):
        to_timm(jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), shapes))


def test_blocks_are_counted_within_stages():
    depths = VARIANTS['F1'].depths
    names = to_timm(_zeros('F1')).keys()
    blocks = {tuple(map(int, name.split('.')[1:3])) for name in names if name.startswith('stages.')}
    assert blocks == {(stage, place) for stage, depth in enumerate(depths) for place in range(depth)}
    with_shortcut = {name.split('.')[2] for name in names if 'downsample' in name}
    assert with_shortcut == {'0'}


@pytest.mark.parametrize('file', ['torch_zip', 'torch_legacy'])
def test_files_of_pytorch_hold_what_they_were_made_of(file):
    path = golden_numbers.DIRECTORY / f'{file}.pth'
    if file == 'torch_zip':
        with zipfile.ZipFile(path) as archive:
            state_dict = read_torch_zip(archive)
    else:
        with path.open('rb') as stream:
            state_dict = read_torch_legacy(stream)
    expected = torch_files.values()
    assert state_dict.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_array_equal(state_dict[name], value, strict=True)


def test_names_of_another_network_are_refused():
    with pytest.raises(
        Refused, match=r'stages\.0\.0\.attn\.conv\.weight, of shape \[1, 1, 3\], is no parameter'
    ):
        from_timm({'stages.0.0.attn.conv.weight': np.zeros((1, 1, 3))})
    with pytest.raises(InputError, match='ResNet/~/conv/w is no parameter of an NFNet'):
        to_timm({'ResNet/~/conv': {'w': np.zeros((1, 1, 3, 3))}})
