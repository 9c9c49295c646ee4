"""Reads PyTorch's `.pth` files of a state_dict without PyTorch and without running them.

Since 1.6 PyTorch writes a ZIP archive of a pickle and one member of raw bytes for each storage; before, and
where asked for as in timm's releases of 2021, one file of five pickles with the storages behind them.
"""

import math
import struct
import zipfile
from collections.abc import Callable
from typing import Any

import numpy as np

from nfnets.weights import pickles
from nfnets.weights.pickles import Name, Refused, Stream

StateDict = dict[str, np.ndarray]

_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_STORAGES = {
    'HalfStorage': 'f2',
    'FloatStorage': 'f4',
    'DoubleStorage': 'f8',
    'CharStorage': 'i1',
    'ShortStorage': 'i2',
    'IntStorage': 'i4',
    'LongStorage': 'i8',
    'ByteStorage': 'u1',
    'BoolStorage': 'b1',
}
_MOST_AXES = 8


class _Storage:
    """Values in a row, which tensors are views of; they are read when all tensors are known."""

    def __init__(self, dtype: np.dtype, size: int):
        self.dtype = dtype
        self.size = size
        self.values: np.ndarray | None = None

    def fill(self, content: bytes) -> None:
        if len(content) != self.size * self.dtype.itemsize:
            raise Refused('a storage is cut short')
        self.values = np.frombuffer(content, self.dtype)


class _Tensor:
    """A view of a storage."""

    def __init__(self, storage: Any, offset: Any, shape: Any, strides: Any, *_: Any):
        if not isinstance(storage, _Storage):
            raise Refused('it has a tensor without a storage')
        numbers = (offset, *shape, *strides)
        if not all(isinstance(n, int) and n >= 0 for n in numbers) or len(shape) != len(strides):
            raise Refused('the shape of a tensor is none')
        last = offset + sum((side - 1) * stride for side, stride in zip(shape, strides, strict=True))
        # As large as its storage at most: a stride of 0 could make anything of one value.
        if len(shape) > _MOST_AXES or math.prod(shape) > storage.size or last >= storage.size:
            raise Refused(f'a tensor does not fit its storage of {storage.size} values')
        self._storage, self._offset, self._shape, self._strides = storage, offset, shape, strides
        self.size = math.prod(shape)

    def value(self) -> np.ndarray:
        values = self._storage.values
        if values is None:
            raise Refused('a storage is missing')
        strides = [stride * values.itemsize for stride in self._strides]
        view = np.lib.stride_tricks.as_strided(values[self._offset :], self._shape, strides, writeable=False)
        return np.ascontiguousarray(view).reshape(self._shape)


def _mapping() -> dict:
    return {}


_NAMES = {
    path: Name(path, call)
    for path, call in {
        'collections.OrderedDict': _mapping,
        'torch._utils._rebuild_tensor_v2': _Tensor,
        'torch._utils._rebuild_parameter': lambda tensor, *_: tensor,
        **{f'torch.{name}': None for name in _STORAGES},
    }.items()
}


def _persistent(storages: dict[str, _Storage]) -> Callable[[Any], _Storage]:
    """Makes the storages that a pickle refers to, each once."""

    def find(reference: Any) -> _Storage:
        tag, kind, key, _, size, *_ = reference
        if tag != 'storage' or not isinstance(kind, Name) or not kind.path.startswith('torch.'):
            raise Refused('it refers to something else than a storage')
        code = _STORAGES.get(kind.path.removeprefix('torch.'))
        if code is None or not isinstance(key, str) or not isinstance(size, int):
            raise Refused('it refers to something else than a storage')
        return storages.setdefault(key, _Storage(np.dtype('<' + code), size))

    return find


def read_torch_zip(archive: zipfile.ZipFile) -> StateDict:
    """Reads a `.pth` file of PyTorch 1.6 or later; the archive's members must be stored as they are.

    Raises:
      Refused: the file holds anything but a mapping of tensors, or is damaged.
    """
    (pickled,) = [name for name in archive.namelist() if name.endswith('data.pkl')]
    root = pickled.removesuffix('data.pkl')
    storages: dict[str, _Storage] = {}
    with archive.open(pickled) as stream:
        tree = pickles.load(stream, _NAMES, _persistent(storages))
    for key, storage in storages.items():
        storage.fill(archive.read(f'{root}data/{key}'))
    return _state_dict(tree, storages)


def is_legacy(stream: Stream) -> bool:
    """Whether the pickle that a stream is at begins a `.pth` file of before PyTorch 1.6."""
    start = stream.tell()
    try:
        return pickles.load(stream, {}) == _LEGACY_MAGIC
    except Refused:
        return False
    finally:
        stream.seek(start)


def read_torch_legacy(stream: Stream) -> StateDict:
    """Reads a `.pth` file of before PyTorch 1.6; raises as `read_torch_zip`."""
    storages: dict[str, _Storage] = {}
    for _ in ('magic number', 'protocol'):
        pickles.load(stream, {})
    system = pickles.load(stream, {})
    if not isinstance(system, dict) or system.get('little_endian') is not True:
        raise Refused('it was not written on a little-endian machine')
    tree = pickles.load(stream, _NAMES, _persistent(storages))
    keys = pickles.load(stream, {})
    if not isinstance(keys, list):
        raise Refused('it has no list of storages')
    for key in keys:
        storage = storages[key] if isinstance(key, str) and key in storages else None
        (size,) = struct.unpack('<q', stream.read(8))
        if storage is None or size != storage.size:
            raise Refused('its storages are not those of its tensors')
        storage.fill(stream.read(size * storage.dtype.itemsize))
    return _state_dict(tree, storages)


def _state_dict(tree: Any, storages: dict[str, _Storage]) -> StateDict:
    if not isinstance(tree, dict) or not all(isinstance(value, _Tensor) for value in tree.values()):
        raise Refused('it is no state_dict: a mapping of names to tensors')
    # Many tensors can share one storage, until someone copies them.
    if sum(tensor.size for tensor in tree.values()) > sum(storage.size for storage in storages.values()):
        raise Refused('its tensors share their content')
    return {name: tensor.value() for name, tensor in tree.items()}
