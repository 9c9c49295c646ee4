"""Every form there and back, found by its content, with the metadata of the parameters."""

import dataclasses
import hashlib
import itertools
import json
import os
import zipfile

import golden_numbers
import numpy as np
import pytest
import safetensors.numpy
import tiny_network

from nfnets import VARIANTS, Variant, load_checkpoint
from nfnets.configs import default
from nfnets.data.preprocessing import Preprocessing
from nfnets.errors import InputError
from nfnets.inference.convert import write_workdir
from nfnets.models.variants import NFNETS
from nfnets.weights.about import About
from nfnets.weights.fit import architecture
from nfnets.weights.load import Weights
from nfnets.weights.save import FORMS, save_checkpoint
from nfnets.weights.timm import to_timm

ABOUT = About(('cat', 'dog', 'Ωμέγα'), Preprocessing(48, 5, 'timm'), 'silu', 'ema', 12, loss='sigmoid')
KINDS = (*FORMS, 'workdir')


def _save(path, form, params, about=ABOUT):
    if form == 'workdir':
        write_workdir(path, params, about, default.get_config())
    else:
        save_checkpoint(path, form, params, about)
    return path


@pytest.mark.parametrize(('first', 'second'), list(itertools.permutations(KINDS, 2)))
def test_every_form_converts_into_every_other_and_back(first, second, tmp_path):
    params = tiny_network.params()
    path = tmp_path / 'a'
    for number, form in enumerate((first, second, first)):
        _save(path := tmp_path / f'{number}', form, params)
        weights = load_checkpoint(path)
        assert weights.kind == form
        tiny_network.assert_same(weights.params, params)
        params = weights.params


@pytest.mark.parametrize('name', ['F0', 'F3', 'F6'])
def test_the_depths_of_the_family_convert_there_and_back(name, tmp_path):
    narrow = Variant((8, 8, 16, 16), VARIANTS[name].depths, group_width=4)
    params = tiny_network.params(narrow, 5)
    for number, form in enumerate(('released', 'timm', 'npz', 'timm', 'released')):
        path = _save(tmp_path / f'{number}', form, params)
        converted = load_checkpoint(path).params
        tiny_network.assert_same(converted, params)
        params = converted


def test_a_file_of_timms_own_network_becomes_any_form_and_timms_again(tmp_path):
    light = dataclasses.replace(NFNETS['eca_nfnet_l0'], widths=(16, 32), depths=(1, 2), group_width=4)
    params = tiny_network.params(light)
    safetensors.numpy.save_file(to_timm(params), tmp_path / 'a.safetensors', {'format': 'pt'})
    weights = load_checkpoint(tmp_path / 'a.safetensors')
    assert (weights.kind, weights.about) == ('timm', About())
    for number, form in enumerate(('npz', 'workdir', 'released', 'timm')):
        _save(path := tmp_path / f'{number}', form, weights.params, weights.about)
        weights = load_checkpoint(path)
        assert architecture(weights.params).base == 'eca_nfnet_l0'
        weights.check_network('NFNet', 'silu')
    for name, value in golden_numbers.flat(params).items():
        np.testing.assert_allclose(golden_numbers.flat(weights.params)[name], value, rtol=5e-7)


def test_tensors_whose_header_is_as_long_as_a_pickle_begins_are_read(tmp_path):
    params, path = tiny_network.params(), tmp_path / 'x.safetensors'
    for names in range(100):
        path.unlink(missing_ok=True)
        save_checkpoint(path, 'timm', params, About(class_names=('a' * (8 * names), 'b', 'c')))
        if path.read_bytes()[0] == 0x80:
            break
    assert path.read_bytes()[0] == 0x80
    tiny_network.assert_same(load_checkpoint(path).params, params)


@pytest.mark.parametrize('form', ['npz', 'timm'])
def test_metadata_of_the_parameters_is_kept(form, tmp_path):
    weights = load_checkpoint(_save(tmp_path / 'x', form, tiny_network.params()))
    assert weights.about == ABOUT
    assert weights.sha256 == hashlib.sha256((tmp_path / 'x').read_bytes()).hexdigest()


def test_a_workdir_keeps_what_concerns_every_step(tmp_path):
    params = tiny_network.params()
    weights = load_checkpoint(_save(tmp_path / 'x', 'workdir', params))
    held = (ABOUT.class_names, ABOUT.preprocessing, ABOUT.activation)
    expected = About(*held, None, 0, 48, 'NFNet', 'softmax')
    assert weights.about == expected
    assert weights.sha256 is None
    tiny_network.assert_same(weights.ema_params, params)
    settings = json.loads((tmp_path / 'x' / 'config.json').read_text())
    assert settings['model']['widths'] == [32, 64]
    assert settings['model']['num_classes'] == 3


def test_raw_and_ema_parameters_are_distinguished():
    raw, average = tiny_network.params(seed=1), tiny_network.params(seed=2)
    weights = Weights('x', 'workdir', raw, About(step=3), average)
    assert weights.choose(ema=False) == (raw, About(step=3, parameters='raw'))
    assert weights.choose(ema=True) == (average, About(step=3, parameters='ema'))
    with pytest.raises(InputError, match='x holds one set of parameters'):
        Weights('x', 'npz', raw, About()).choose(ema=True)


def test_our_file_is_an_ordinary_archive_of_arrays(tmp_path):
    params = tiny_network.params()
    path = _save(tmp_path / 'x.npz', 'npz', params)
    with np.load(path) as arrays:
        np.testing.assert_array_equal(arrays['NFNet/~/linear/b'], params['NFNet/~/linear']['b'], strict=True)
    with zipfile.ZipFile(path) as archive:
        metadata = json.loads(archive.read('metadata.json'))
    assert metadata['variant'] is None
    assert metadata['num_classes'] == 3
    assert metadata['class_names'] == list(ABOUT.class_names)
    again = _save(tmp_path / 'y.npz', 'npz', params)
    assert again.read_bytes() == path.read_bytes()


def test_arrays_that_numpy_saved_without_metadata_are_read(tmp_path):
    params = tiny_network.params()
    np.savez(tmp_path / 'x', **{f'{m}/{n}': x for m, names in params.items() for n, x in names.items()})
    weights = load_checkpoint(tmp_path / 'x.npz')
    assert weights.about == About()
    tiny_network.assert_same(weights.params, params)


@pytest.mark.parametrize('form', FORMS)
def test_what_is_there_is_not_written_over(form, tmp_path):
    path = tmp_path / 'x'
    path.write_text('dear')
    with pytest.raises(InputError, match='exists already'):
        save_checkpoint(path, form, tiny_network.params(), About())
    assert path.read_text() == 'dear'
    assert list(tmp_path.iterdir()) == [path]


def test_a_workdir_is_not_made_where_something_is(tmp_path):
    (tmp_path / 'x').write_text('dear')
    with pytest.raises(InputError, match='is not empty'):
        write_workdir(tmp_path, tiny_network.params(), About(), default.get_config())
    assert os.listdir(tmp_path) == ['x']


def test_a_target_that_cannot_be_written_is_named_and_leaves_nothing(tmp_path):
    with pytest.raises(InputError, match=r'missing/x cannot be written: No such file'):
        save_checkpoint(tmp_path / 'missing' / 'x', 'npz', tiny_network.params(), About())
    with pytest.raises(InputError, match='not those of an NFNet'):
        save_checkpoint(tmp_path / 'x', 'npz', {'m': {'w': np.zeros(2)}}, About())
    with pytest.raises(InputError, match="unknown form 'onnx'"):
        save_checkpoint(tmp_path / 'x', 'onnx', tiny_network.params(), About())
    assert not list(tmp_path.iterdir())


def test_directories_that_are_no_runs_are_named(tmp_path):
    with pytest.raises(InputError, match=r'holds no config\.json'):
        load_checkpoint(tmp_path)
    path = _save(tmp_path / 'x', 'workdir', tiny_network.params())
    (path / 'class_names.json').write_text('{}')
    with pytest.raises(InputError, match=r'class_names\.json is no list of names'):
        load_checkpoint(path)
    (path / 'class_names.json').unlink()
    assert load_checkpoint(path).about.class_names is None
    config = (path / 'config.json').read_text()
    (path / 'config.json').write_text('{}')
    with pytest.raises(InputError, match='is not a config that a run wrote'):
        load_checkpoint(path)
    (path / 'config.json').write_text(config)
    (path / 'checkpoints').rename(path / 'elsewhere')
    with pytest.raises(InputError, match='the run has not saved any yet'):
        load_checkpoint(path)
    (path / 'checkpoints').mkdir()
    with pytest.raises(InputError, match='the run has not saved any yet'):
        load_checkpoint(path)


def test_a_damaged_checkpoint_of_a_run_is_named(tmp_path):
    path = _save(tmp_path / 'x', 'workdir', tiny_network.params())
    for file in (path / 'checkpoints' / '0' / 'state').rglob('*'):
        if file.is_file():
            file.write_bytes(b'')
    with pytest.raises(InputError, match=r'checkpoint 0 in .*checkpoints cannot be read'):
        load_checkpoint(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(InputError, match=r'none\.npz cannot be read: No such file'):
        load_checkpoint(tmp_path / 'none.npz')
