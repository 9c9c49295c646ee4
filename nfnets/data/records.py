"""Random access to the records of TFDS's two file formats.

ArrayRecord has it built in. A TFRecord file has no index, but each record begins with its length, so one is
made by reading 12 bytes a record whenever a split is opened. Measured on a local disk with 50,040 records of
110 kB in 40 files: 0.3 s from the page cache and 1.2 s from the disk, so 7 s and 31 s for ImageNet.
"""

import os
import resource
import struct
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple, Protocol

import numpy as np
from etils import epath

from nfnets.errors import InputError
from nfnets.files import is_local, why

_HEADER = struct.Struct('<QI')  # Length of the record, checksum of the length.
_FOOTER = 4  # Checksum of the record.
_THREADS = 16
_SPARE_FILES = 512  # For whatever else a run opens: checkpoints, logs, sockets.


class Shard(NamedTuple):
    """The records of one file that belong to a split."""

    path: epath.Path
    skip: int
    take: int
    total: int  # Records in the whole file.


class Records(Protocol):
    """Serialized records of several shards, in order."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> bytes:
        """One record. Raises OSError: it cannot be read, or not whole."""

    def describe(self, index: int) -> str:
        """Names the file and the record's place in it."""


class _Sharded:
    def __init__(self, shards: Sequence[Shard]):
        self._shards = shards
        self._ends = np.cumsum([shard.take for shard in shards])

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    def locate(self, index: int) -> tuple[int, int]:
        """Shard and record within its file."""
        shard = int(np.searchsorted(self._ends, index, side='right'))
        begin = self._ends[shard] - self._shards[shard].take
        return shard, int(index - begin) + self._shards[shard].skip

    def describe(self, index: int) -> str:
        shard, record = self.locate(index)
        return f'record {record} of {self._shards[shard].path}'


class TFRecords(_Sharded):
    """TFRecord files, indexed when opened."""

    def __init__(self, shards: Sequence[Shard]):
        """Args: shards. Raises InputError: one is in a bucket, missing, cut short or of another count."""
        super().__init__(shards)
        remote = next((shard.path for shard in shards if not is_local(shard.path)), None)
        if remote is not None:
            raise InputError(
                f'{remote} is a TFRecord file in a bucket, where it takes a request to find each record: '
                'prepare the data set as array_record, or copy it to a disk'
            )
        with ThreadPoolExecutor(_THREADS) as pool:
            self._offsets = list(pool.map(_index, shards))

    def __getitem__(self, index: int) -> bytes:
        shard, record = self.locate(index)
        offsets = self._offsets[shard]
        begin, end = offsets[record] + _HEADER.size, offsets[record + 1] - _FOOTER
        # Opened anew each time, some microseconds: ImageNet's 1,088 files are more than many systems
        # let a process keep open.
        with open(self._shards[shard].path, 'rb', buffering=0) as file:
            content = os.pread(file.fileno(), int(end - begin), int(begin))
        if len(content) < end - begin:
            raise OSError('the file was cut short')
        return content


def _index(shard: Shard) -> np.ndarray:
    """Offset of each record of a TFRecord file, and of its end; int64 [records + 1]."""
    try:
        file = os.open(shard.path, os.O_RDONLY)
    except OSError as error:
        raise InputError(f'{shard.path} cannot be opened: {error.strerror}') from error
    try:
        if hasattr(os, 'posix_fadvise'):  # macOS has none.
            os.posix_fadvise(file, 0, 0, os.POSIX_FADV_RANDOM)  # Only the headers are wanted.
        size = os.fstat(file).st_size
        offsets = [0]
        while offsets[-1] + _HEADER.size <= size:
            length, _ = _HEADER.unpack(os.pread(file, _HEADER.size, offsets[-1]))
            offsets.append(offsets[-1] + _HEADER.size + length + _FOOTER)
    finally:
        os.close(file)
    if offsets[-1] != size or len(offsets) - 1 != shard.total:
        raise InputError(
            f'{shard.path} is damaged: {size} bytes hold {len(offsets) - 1} records up to byte '
            f'{offsets[-1]}, and {shard.total} records are expected; prepare the data set again'
        )
    return np.asarray(offsets, np.int64)


class ArrayRecords(_Sharded):
    """ArrayRecord files."""

    def __init__(self, shards: Sequence[Shard]):
        """Args: shards. Raises InputError: one cannot be opened or has another count."""
        from array_record.python.array_record_module import ArrayRecordReader

        def open_shard(shard: Shard) -> ArrayRecordReader:
            try:
                reader = ArrayRecordReader(str(shard.path))
            except (RuntimeError, ValueError, OSError) as error:
                raise InputError(f'{shard.path} cannot be opened: {error}') from error
            if reader.num_records() != shard.total:
                raise InputError(
                    f'{shard.path} is damaged: it holds {reader.num_records()} records, and '
                    f'{shard.total} are expected; prepare the data set again'
                )
            return reader

        super().__init__(shards)
        _allow_open_files(len(shards))
        with ThreadPoolExecutor(_THREADS) as pool:
            self._readers = list(pool.map(open_shard, shards))

    def __getitem__(self, index: int) -> bytes:
        shard, record = self.locate(index)
        try:
            return self._readers[shard].read([record])[0]
        except (RuntimeError, ValueError, IndexError) as error:
            raise OSError(str(error)) from error


def _allow_open_files(files: int) -> None:
    """Lets this process open so many more files: ImageNet has 1,088, and macOS begins with 256."""
    allowed, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    unlimited = resource.RLIM_INFINITY
    opened = _open_files()
    needed = opened + files + _SPARE_FILES
    if allowed == unlimited or needed <= allowed:
        return
    if most != unlimited and opened + files >= most:
        raise InputError(f'{files} shards need as many open files, and this system allows {most}')
    # Not `most`: where that is unlimited, macOS refuses it.
    wanted = needed if most == unlimited else min(needed, most)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, most))
    except (ValueError, OSError) as error:
        raise InputError(
            f'{files} shards need as many open files, and this system allows {allowed} and refuses {wanted}: '
            f'{why(error)}; prepare the data set in fewer shards'
        ) from error


def _open_files() -> int:
    """How many files this process has open; 0 if not known."""
    try:
        return len(os.listdir('/dev/fd'))
    except OSError:
        return 0
