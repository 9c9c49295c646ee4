"""Files on a disk, or in a bucket of Google Cloud Storage where a path begins with gs://.

`epath` reads and writes both. What it leaves open, because a bucket's objects are written whole, is here.
"""

import contextlib
import operator
import os
import pathlib
import re
import sys
import tempfile
import uuid
from collections.abc import Iterator

from etils import epath

from nfnets.errors import InputError, TrainingStopped

# What the libraries under `epath`, Orbax and tensorboardX raise where a disk would give OSError.
_ERRORS = {
    'tensorflow': 'errors.OpError',
    'google.api_core.exceptions': 'GoogleAPIError',
    'google.auth.exceptions': 'GoogleAuthError',
}
# Of those, what may succeed when asked again; of tensorstore only the message differs.
_PASSING_TYPES = frozenset(
    (
        'UnavailableError',
        'DeadlineExceededError',
        'AbortedError',
        'InternalError',
        'ServerError',
        'TooManyRequests',
        'RetryError',
        'TransportError',
    )
)
_PASSING_TEXT = re.compile(r'\b(?:UNAVAILABLE|DEADLINE_EXCEEDED|ABORTED)\b')


def as_path(path: epath.PathLike) -> epath.Path:
    """A path on a disk, or gs://BUCKET/PATH.

    Raises:
      InputError: it is of another kind, such as https://HOST/FILE.
    """
    scheme, separator, _ = os.fspath(path).partition('://')
    if separator and scheme != 'gs':
        raise InputError(f'{path} cannot be used: give a path on a disk or gs://BUCKET/PATH')
    return epath.Path(path)


def is_local(path: epath.PathLike) -> bool:
    """Whether a path is on a disk of this machine."""
    return '://' not in os.fspath(path)


def file_errors(*others: type[Exception]) -> tuple[type[Exception], ...]:
    """The exceptions of reading and writing files anywhere, for `except`."""
    return OSError, *others, *bucket_errors()


def bucket_errors() -> tuple[type[Exception], ...]:
    """The exceptions of reading and writing files in buckets alone."""
    # Of modules that nobody imported nothing is raised; TensorFlow takes seconds to import.
    there = {name: error for name, error in _ERRORS.items() if name in sys.modules}
    return tuple(operator.attrgetter(error)(sys.modules[name]) for name, error in there.items())


def is_passing(error: Exception) -> bool:
    """Whether a bucket failed in a way that may be over soon."""
    types = {kind.__name__ for kind in type(error).__mro__}
    return bool(types & _PASSING_TYPES) or bool(_PASSING_TEXT.search(str(error)))


def failure(message: str, error: Exception) -> InputError | TrainingStopped:
    """The error to raise for one of `file_errors`: a retry may help after some and not after others."""
    return TrainingStopped(message) if is_passing(error) else InputError(message)


def why(error: BaseException) -> str:
    """The message of a system or a library, in one line."""
    return getattr(error, 'strerror', None) or ' '.join(str(error).split())


def is_folder(path: epath.Path) -> bool:
    """Whether a directory is there; raises one of `file_errors` if its bucket may not be read."""
    return path.exists() and path.is_dir()  # The second alone is False for such a bucket.


def size(path: epath.PathLike) -> int:
    """The size of a file, bytes."""
    return os.stat(path).st_size if is_local(path) else epath.Path(path).stat().length


@contextlib.contextmanager
def local_copy(path: epath.Path) -> Iterator[pathlib.Path]:
    """The file itself, or a copy that is removed afterward of one in a bucket."""
    if is_local(path):
        yield pathlib.Path(path)
        return
    with tempfile.TemporaryDirectory() as directory:
        copy = pathlib.Path(directory, path.name)
        path.copy(copy)
        yield copy


@contextlib.contextmanager
def replacing(path: epath.PathLike) -> Iterator[pathlib.Path]:
    """A local file to write, which then takes the place of `path`; that is never a part of it."""
    name = pathlib.PurePath(path).name
    if is_local(path):
        # A name that no other writer of the same file has.
        draft = pathlib.Path(path).with_name(f'{name}.{uuid.uuid4().hex}.tmp')
        try:
            yield draft
            with draft.open('rb') as file:
                os.fsync(file.fileno())
            draft.replace(path)
        except BaseException:
            draft.unlink(missing_ok=True)
            raise
        return
    with tempfile.TemporaryDirectory() as directory:
        draft = pathlib.Path(directory, name)
        yield draft
        epath.Path(draft).copy(path, overwrite=True)


def replace_file(path: epath.PathLike, text: str) -> None:
    """Writes a file so that, whatever happens, it holds either the old text or the new."""
    with replacing(path) as draft:
        draft.write_text(text, encoding='utf-8')
