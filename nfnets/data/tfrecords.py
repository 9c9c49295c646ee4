"""Random access to the records of TFRecord files.

They have no index, but each record begins with its length, so one is made by reading 12 bytes a record
whenever a split is opened, which is soon done on a local disk (`docs/data.md`). In a bucket it takes a
request for each record, and so the index is kept there, as FILE.idx: a line with offset and size for each
record, as DALI's `tfrecord2idx` writes them.
"""

import contextlib
import os
import random
import struct
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from etils import epath

from nfnets.data.ranges import read_range, start_range
from nfnets.data.records import Shard, Sharded, opening_threads
from nfnets.errors import InputError
from nfnets.files import failure, file_errors, is_local, replace_file, size, why

_HEADER = struct.Struct('<QI')  # Length of the record, checksum of the length.
_FOOTER = 4  # Checksum of the record.


class TFRecords(Sharded):
    """TFRecord files, indexed when opened."""

    def __init__(self, shards: Sequence[Shard]):
        """Args: shards.

        Raises:
          InputError: one is missing, cut short or of another count.
          TrainingStopped: its bucket does not answer now.
        """
        super().__init__(shards)
        # In an order of their own, so that hosts that start together share the work: what one has kept, the
        # others read.
        order = random.sample(range(len(shards)), len(shards))
        with ThreadPoolExecutor(opening_threads(shards)) as pool:
            found = pool.map(lambda i: _index(shards[i]), order)
            self._offsets = dict(zip(order, found, strict=True))

    def start(self, index: int) -> Callable[[], bytes]:
        shard, record = self.locate(index)
        begin, end = self._offsets[shard][record : record + 2].tolist()
        content = start_range(self._shards[shard].path, begin, end)
        return lambda: _content(content())


def _content(record: bytes) -> bytes:
    length, _ = _HEADER.unpack_from(record)
    if length != len(record) - _HEADER.size - _FOOTER:
        raise OSError('it does not begin where the index says: was the file replaced?')
    return record[_HEADER.size : -_FOOTER]


def write_index(path: epath.Path, offsets: np.ndarray) -> None:
    """Keeps the offsets of a TFRecord file's records, and of its end, beside it; int64 [records + 1]."""
    lines = (f'{begin} {size}\n' for begin, size in zip(offsets, np.diff(offsets), strict=False))
    replace_file(_index_path(path), ''.join(lines))


def _index_path(path: epath.Path) -> epath.Path:
    return path.with_name(f'{path.name}.idx')


def _index(shard: Shard) -> np.ndarray:
    """Offset of each record of a TFRecord file, and of its end; int64 [records + 1]."""
    return _index_on_disk(shard) if is_local(shard.path) else _index_in_bucket(shard)


def _index_on_disk(shard: Shard) -> np.ndarray:
    try:
        file = os.open(shard.path, os.O_RDONLY)
    except OSError as error:
        raise InputError(f'{shard.path} cannot be opened: {error.strerror}') from error
    try:
        if hasattr(os, 'posix_fadvise'):  # macOS has none.
            os.posix_fadvise(file, 0, 0, os.POSIX_FADV_RANDOM)  # Only the headers are wanted.
        return _walk(shard, os.fstat(file).st_size, lambda begin, length: os.pread(file, length, begin))
    finally:
        os.close(file)


def _index_in_bucket(shard: Shard) -> np.ndarray:
    path = shard.path
    try:
        with contextlib.suppress(FileNotFoundError):
            return _read_index(shard)
        offsets = _walk(shard, size(path), lambda begin, length: read_range(path, begin, begin + length))
    except file_errors() as error:
        raise failure(f'{path} cannot be opened: {why(error)}', error) from error
    with contextlib.suppress(*file_errors()):  # Of a bucket that may not be written.
        write_index(path, offsets)
    return offsets


def _read_index(shard: Shard) -> np.ndarray:
    path = _index_path(shard.path)
    try:
        begins, sizes = np.array(read_range(path, 0).split(), np.int64).reshape(-1, 2).T
    except ValueError:
        begins = sizes = np.zeros(0, np.int64)
    offsets = np.concatenate([[0], np.cumsum(sizes)])
    if len(sizes) != shard.total or (sizes <= _HEADER.size).any() or (begins != offsets[:-1]).any():
        raise InputError(f'{path} is no index of the {shard.total} records of its file: remove it')
    return offsets


def _walk(shard: Shard, num_bytes: int, read: Callable[[int, int], bytes]) -> np.ndarray:
    """Finds the records of a file of so many bytes; `read` takes where to begin and how many bytes."""
    offsets = [0]
    while offsets[-1] + _HEADER.size <= num_bytes:
        length, _ = _HEADER.unpack(read(offsets[-1], _HEADER.size))
        offsets.append(offsets[-1] + _HEADER.size + length + _FOOTER)
    if offsets[-1] != num_bytes or len(offsets) - 1 != shard.total:
        raise InputError(
            f'{shard.path} is damaged: {num_bytes} bytes hold {len(offsets) - 1} records up to byte '
            f'{offsets[-1]}, and {shard.total} records are expected; prepare the data set again'
        )
    return np.asarray(offsets, np.int64)
