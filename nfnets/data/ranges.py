"""Parts of files, on a disk or in a bucket, where each is one request on a connection that stays open."""

import contextlib
import functools
import os
from collections.abc import Callable, Iterator
from typing import Any

from etils import epath

from nfnets.errors import InputError
from nfnets.files import is_local

# Requests at a time, instead of tensorstore's 32: what asks has a limit of its own.
_IN_FLIGHT = 4096
# What is read at once of a file that is walked through: of a disk little, as most of it may be passed over.
_DISK_PIECE, _BUCKET_PIECE = 4096, 8 << 20  # Bytes.

Read = Callable[[int, int], bytes]  # Where to begin, and how many bytes.


def read_range(path: epath.PathLike, begin: int, end: int | None = None) -> bytes:
    """Reads a part of a file; thread-safe.

    Args:
      path: of the file.
      begin: of the part, bytes; from the end of the file if negative.
      end: of the part; None: that of the file.

    Raises:
      OSError: it cannot be read, or ends before.
    """
    return start_range(path, begin, end)()


def start_range(path: epath.PathLike, begin: int, end: int | None = None) -> Callable[[], bytes]:
    """As `read_range`, but a bucket is only asked: what is returned gives the part. Either raises OSError."""
    if is_local(path):
        return functools.partial(_read_on_disk, path, begin, end)
    return _ask_bucket(os.fspath(path), begin, end)


@contextlib.contextmanager
def reading_on(path: epath.PathLike, num_bytes: int) -> Iterator[Read]:
    """Reads parts of a file of so many bytes, one after the other, in fewer pieces; raises OSError."""
    if not is_local(path):
        yield _ahead(lambda begin, end: read_range(path, begin, end), _BUCKET_PIECE, num_bytes)
        return
    file = os.open(path, os.O_RDONLY)
    try:
        if hasattr(os, 'posix_fadvise'):  # macOS has none.
            os.posix_fadvise(file, 0, 0, os.POSIX_FADV_RANDOM)  # Most is passed over.
        yield _ahead(lambda begin, end: os.pread(file, end - begin, begin), _DISK_PIECE, num_bytes)
    finally:
        os.close(file)


def _ahead(read: Read, piece: int, num_bytes: int) -> Read:
    """Reads by begin and length with what reads by begin and end."""
    there, first = b'', 0

    def run(begin: int, length: int) -> bytes:
        nonlocal there, first
        if not first <= begin <= begin + length <= first + len(there):
            there, first = read(begin, min(max(begin + piece, begin + length), num_bytes)), begin
        return there[begin - first : begin - first + length]

    return run


def _read_on_disk(path: epath.PathLike, begin: int, end: int | None) -> bytes:
    # Opened anew each time, some microseconds: ImageNet's 1,088 files are more than many systems let a
    # process keep open.
    with open(path, 'rb', buffering=0) as file:
        file.seek(begin, os.SEEK_END if begin < 0 else os.SEEK_SET)
        content = file.read(-1 if end is None else end - begin)
    if end is not None and len(content) < end - begin:
        raise OSError('the file was cut short')
    return content


def _ask_bucket(path: str, begin: int, end: int | None) -> Callable[[], bytes]:
    bucket, _, name = path.removeprefix('gs://').partition('/')
    tensorstore, context = _tensorstore()
    with _as_os_error():
        store = tensorstore.KvStore.open(f'gs://{bucket}/', context=context).result()
        future = store.read(name, byte_range=slice(begin, end))

    def wait() -> bytes:
        with _as_os_error():
            found = future.result()
        if found.state == 'missing':
            raise FileNotFoundError(f'{path} is not there')
        return found.value

    return wait


@contextlib.contextmanager
def _as_os_error() -> Iterator[None]:
    try:
        yield
    except ValueError as error:  # tensorstore's, of whatever kind.
        raise OSError(str(error)) from error


@functools.cache
def _tensorstore() -> tuple[Any, Any]:
    """The library, and what all of its readers here share."""
    try:
        import tensorstore
    except ImportError as error:
        raise InputError('gs:// needs a package more: pip install tensorstore') from error
    return tensorstore, tensorstore.Context({'gcs_request_concurrency': {'limit': _IN_FLIGHT}})
