"""Random access to the records of several files; of ArrayRecord's on a disk, which has it built in."""

import functools
import os
import resource
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple, Protocol

import numpy as np
from etils import epath

from nfnets.errors import InputError
from nfnets.files import is_local, why

_THREADS, _BUCKET_THREADS = 16, 256  # A bucket takes some hundredths of a second to answer.
_SPARE_FILES = 512  # For whatever else a run opens: checkpoints, logs, sockets.


class Shard(NamedTuple):
    """The records of one file that belong to a split.

    Attributes:
      path: of the file.
      skip: records before the split's first.
      take: records of the split.
      total: records in the whole file.
    """

    path: epath.Path
    skip: int
    take: int
    total: int


def opening_threads(shards: Sequence[Shard]) -> int:
    """How many threads shards are opened with."""
    return _THREADS if all(is_local(shard.path) for shard in shards) else _BUCKET_THREADS


class Records(Protocol):
    """Serialized records of several shards, in order."""

    def __len__(self) -> int: ...

    def start(self, index: int) -> Callable[[], bytes]:
        """Begins to read one record, which what is returned gives; either raises OSError if it cannot."""

    def describe(self, index: int) -> str:
        """Names the file and the record's place in it."""


class Sharded:
    """Finds the shard of a record."""

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


class ArrayRecords(Sharded):
    """ArrayRecord files on a disk."""

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
        with ThreadPoolExecutor(opening_threads(shards)) as pool:
            self._readers = list(pool.map(open_shard, shards))

    def start(self, index: int) -> Callable[[], bytes]:
        return functools.partial(self._read, *self.locate(index))

    def _read(self, shard: int, record: int) -> bytes:
        try:
            # As a range of one: a list of one costs memory and time for every record of the file.
            return self._readers[shard].read(record, record + 1)[0]
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
