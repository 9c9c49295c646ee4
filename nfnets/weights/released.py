"""Reads and writes the form of the weights released with the paper (`F0_haiku.npz` .. `F6_haiku.npz`).

In spite of their names those are pickles, which dill wrote, of {module: {name: array}}.
"""

import math
import pickle
from collections.abc import Mapping
from typing import IO, Any

import numpy as np

from nfnets.weights import pickles
from nfnets.weights.pickles import Name, Refused, Stream

Params = dict[str, dict[str, np.ndarray]]


_CODES = frozenset({'f2', 'f4', 'f8', 'i1', 'i2', 'i4', 'i8', 'u1', 'u2', 'u4', 'u8', 'b1'})
_MOST_AXES = 8


class _Dtype(pickles.Unfinished):
    """An element type; its byte order arrives late."""

    def __init__(self, code: Any, align: Any = None, copy: Any = None):
        del align, copy
        if not isinstance(code, str):
            raise Refused('it has an array of structures')
        if code not in _CODES:
            raise Refused(f'it has an array of type {code[:20]!r}')
        self.value = np.dtype(code)

    def build(self, state: Any) -> None:
        _, order, subarray, names, fields, *_ = state
        if not (subarray is names is fields is None):
            raise Refused('it has an array of structures')
        self.value = self.value.newbyteorder(order)


class _Array(pickles.Unfinished):
    """An array; its content arrives late."""

    value: np.ndarray | None = None

    def build(self, state: Any) -> None:
        _, shape, dtype, is_fortran, content = state
        self.value = _array(content, dtype, shape, 'F' if is_fortran else 'C')


def _array(content: Any, dtype: Any, shape: Any, order: Any) -> np.ndarray:
    # Values of unknown type are never printed: a tuple of tuples of one tuple can be endless.
    if not isinstance(dtype, _Dtype) or not isinstance(content, bytes | bytearray):
        raise Refused(f'the content of an array is of type {type(content).__name__}')
    if len(shape) > _MOST_AXES or not all(isinstance(side, int) and side >= 0 for side in shape):
        raise ValueError('the shape of an array is none')
    if math.prod(shape) * dtype.value.itemsize != len(content):
        raise ValueError(f'{len(content)} bytes are no array of {dtype.value} and shape {shape}')
    return np.frombuffer(content, dtype.value).reshape(shape, order=order)


def _reconstruct(kind: Any, shape: Any, code: Any) -> _Array:
    del shape, code
    if not isinstance(kind, Name) or kind.path != 'numpy.ndarray':
        raise Refused('it makes an array of a type of its own')
    return _Array()


def _scalar(dtype: Any, content: Any) -> np.ndarray:
    return _array(content, dtype, (), 'C')


def _jax_array(function: Any, arguments: Any, state: Any, about: Any = None) -> _Array:
    del about
    if not isinstance(function, Name) or function.call is not _reconstruct:
        raise Refused('it makes a JAX array of something else than a NumPy array')
    array = _reconstruct(*arguments)
    array.build(state)
    return array


def _mapping(content: Any = None) -> dict:
    if content is not None and not isinstance(content, dict):
        raise Refused(f'it makes a mapping of a value of type {type(content).__name__}')
    # Not copied: a file could have the same large mapping copied again and again.
    return {} if content is None else content


def _import_module(module: Any) -> Name:
    if not isinstance(module, str):
        raise Refused('it imports what has no name')
    return Name(module)


def _get_attr(module: Any, name: Any) -> Name:
    if not isinstance(module, Name) or not isinstance(name, str):
        raise Refused('it takes an attribute of a value')
    path = f'{module.path}.{name}'
    if path not in _NAMES:
        raise Refused(f'it names {path}')
    return _NAMES[path]


def _numpy(name: str, call: Any) -> dict[str, Name]:
    modules = [
        f'numpy.{core}.{m}'
        for core in ('core', '_core')
        for m in ('multiarray', '_multiarray_umath', 'numeric')
    ]
    return {f'{module}.{name}': Name(f'{module}.{name}', call) for module in modules}


_NAMES = {
    **_numpy('_reconstruct', _reconstruct),
    **_numpy('scalar', _scalar),
    **_numpy('_frombuffer', _array),
    **{
        path: Name(path, call)
        for path, call in {
            'numpy.ndarray': None,
            'numpy.dtype': _Dtype,
            # JAX of 2022, and since; before, its arrays were written as NumPy's.
            'jax._src.device_array.reconstruct_device_array': _jax_array,
            'jax._src.array._reconstruct_array': _jax_array,
            'haiku._src.data_structures.FlatMapping': _mapping,
            'haiku._src.data_structures.FlatMap': _mapping,
            'collections.OrderedDict': _mapping,
            # dill fetches NumPy's functions from their modules by name.
            'dill._dill._import_module': _import_module,
            'dill._dill._get_attr': _get_attr,
        }.items()
    },
}


def read_released(stream: Stream) -> Params:
    """Reads {module: {name: array}}, whose arrays may be NumPy's or JAX's of any year.

    Raises:
      Refused: the file names, calls or holds anything else.
    """
    tree = pickles.load(stream, _NAMES)
    params = {
        module: {name: _leaf(leaf, f'{module}/{name}') for name, leaf in _level(names, module).items()}
        for module, names in _level(tree, 'the file').items()
    }
    # Many arrays can share the same bytes, until someone copies them.
    if sum(x.nbytes for names in params.values() for x in names.values()) > stream.tell():
        raise Refused('its arrays share their content')
    return params


def _level(tree: Any, where: str) -> dict[str, Any]:
    if not isinstance(tree, dict) or not all(isinstance(name, str) for name in tree):
        raise Refused(f'{where} holds no mapping of names')
    return tree


def _leaf(leaf: Any, where: str) -> np.ndarray:
    value = leaf.value if isinstance(leaf, _Array) else leaf
    if not isinstance(value, np.ndarray):
        raise Refused(f'{where} holds no array')
    return value


def write_released(stream: IO[bytes], params: Mapping[str, Mapping[str, np.ndarray]]) -> None:
    """Writes the released form, for NumPy of any year: pickle protocol 3 and the names of NumPy 1."""
    stream.write(pickle.PROTO + b'\x03' + pickle.EMPTY_DICT)
    for module, names in params.items():
        stream.write(_pickled(module) + pickle.EMPTY_DICT)
        for name, value in names.items():
            stream.write(_pickled(name) + _pickled_array(np.asarray(value)) + pickle.SETITEM)
        stream.write(pickle.SETITEM)
    stream.write(pickle.STOP)


def _pickled(value: Any) -> bytes:
    return pickle.dumps(value, 3)[2:-1]  # Without PROTO and STOP.


def _pickled_array(value: np.ndarray) -> bytes:
    dtype = b'cnumpy\ndtype\n' + _pickled((value.dtype.str[1:], False, True)) + pickle.REDUCE
    dtype += _pickled((3, '<', None, None, None, -1, -1, 0)) + pickle.BUILD
    empty = b'cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\n' + _pickled((0,)) + _pickled(b'b')
    content = value.astype(value.dtype.newbyteorder('<')).tobytes()
    state = pickle.MARK + _pickled(1) + _pickled(value.shape) + dtype + _pickled(False) + _pickled(content)
    return empty + pickle.TUPLE3 + pickle.REDUCE + state + pickle.TUPLE + pickle.BUILD
