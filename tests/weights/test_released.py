"""The form of the weights released with the paper, against Python's own pickle."""

import collections
import io
import pickle

import golden_numbers
import haiku as hk
import jax.numpy as jnp
import numpy as np
import pytest

from nfnets import load_checkpoint
from nfnets.weights.released import read_released, write_released

FIXTURES = ['dill_fixture_p3', 'dill_fixture_p4', 'dill_fixture_jaxleaf_p4']


def _params():
    names = {
        'NFNet/~/stem_conv0/w': (3, 3, 3, 16),
        'NFNet/~/linear/b': (5,),
        'NFNet/~/nf_block/skip_gain': (),
    }
    return golden_numbers.fill.to_haiku(golden_numbers.fill.fill_flat(names))


def _assert_equal(actual, expected):
    assert {m: list(names) for m, names in actual.items()} == {
        m: list(names) for m, names in expected.items()
    }
    for module, names in expected.items():
        for name, value in names.items():
            np.testing.assert_array_equal(actual[module][name], value, strict=True)


@pytest.mark.parametrize('fixture', FIXTURES)
def test_samples_of_the_released_form_hold_what_they_were_made_of(fixture):
    weights = load_checkpoint(golden_numbers.DIRECTORY / f'{fixture}.pkl')
    shapes = {'NFNet/~/stem_conv0/w': (3, 3, 3, 16), 'NFNet/~/stem_conv0/gain': (16,)}
    shapes['NFNet/~/nf_block/skip_gain'] = ()
    _assert_equal(
        weights.params,
        golden_numbers.fill.to_haiku({n: golden_numbers.fill.fill(n, s) for n, s in shapes.items()}),
    )
    assert weights.kind == 'released'


@pytest.mark.parametrize('protocol', [3, 4, 5])
@pytest.mark.parametrize(
    'mapping',
    [dict, collections.OrderedDict, hk.data_structures.to_immutable_dict],
    ids=['dict', 'ordered', 'haiku'],
)
@pytest.mark.parametrize('array', [np.asarray, jnp.asarray], ids=['numpy', 'jax'])
def test_whatever_pickle_writes_of_parameters_is_read(protocol, mapping, array):
    params = _params()
    tree = mapping({m: mapping({n: array(x) for n, x in names.items()}) for m, names in params.items()})
    _assert_equal(read_released(io.BytesIO(pickle.dumps(tree, protocol))), params)


@pytest.mark.parametrize(
    'value',
    [
        np.arange(6.0, dtype='>f4').reshape(2, 3),
        np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        np.arange(6, dtype=np.int64)[::2],
        np.float32(1.5),
        np.zeros((0, 3), np.float16),
        np.array([True, False]),
    ],
    ids=['big_endian', 'fortran', 'strided', 'scalar', 'empty', 'bool'],
)
def test_arrays_of_every_layout_are_read(value):
    read = read_released(io.BytesIO(pickle.dumps({'m': {'w': value}}, 4)))['m']['w']
    np.testing.assert_array_equal(read, value)
    assert read.dtype == np.asarray(value).dtype


def test_what_is_written_is_read_by_pickle_and_by_us():
    params = _params()
    file = io.BytesIO()
    write_released(file, params)
    _assert_equal(pickle.loads(file.getvalue()), params)
    file.seek(0)
    _assert_equal(read_released(file), params)
    assert b'numpy._core' not in file.getvalue()  # Which NumPy of 2021 does not have.
