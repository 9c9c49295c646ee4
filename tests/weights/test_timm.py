"""timm's names, layouts and logits; `scripts/benchmarks/compare_timm.py --save` wrote timm's numbers."""

import importlib.util
import json
import zipfile
from pathlib import Path

import golden_numbers
import jax
import numpy as np
import pytest
from pure_nfnet import make_network, parameter_shapes

from nfnets import VARIANTS
from nfnets.errors import InputError
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


@pytest.mark.parametrize('variant', ['F1', 'F4+'])
def test_blocks_are_counted_within_stages(variant):
    depths = VARIANTS[variant].depths
    names = to_timm(_zeros(variant)).keys()
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
