"""Keeps a second run out of a working directory while one is under way.

A bucket has no lock that is let go of when a process is killed: there a second run is not kept out.
"""

import errno
import fcntl
from typing import IO, Any

import jax
from etils import epath

from nfnets.errors import InputError
from nfnets.files import is_local, why


class WorkdirLock:
    """Held by process 0 while a run is under way; the system lets go of it however the process ends."""

    def __init__(self, workdir: epath.Path):
        """Args: workdir is created where missing. Raises InputError: it is in use, or cannot be used."""
        self._file: IO[Any] | None = None
        if jax.process_index() != 0 or not is_local(workdir):
            return
        try:
            workdir.mkdir(parents=True, exist_ok=True)
            self._file = (workdir / 'lock').open('w')
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            self.close()
            raise InputError(f'workdir {workdir} is in use by a run that is under way') from error
        except OSError as error:
            raise InputError(f'workdir {workdir} cannot be used: {_obstacle(workdir, error)}') from error

    def close(self) -> None:
        """Lets others in."""
        if self._file is not None:
            self._file.close()


def _obstacle(workdir: epath.Path, error: OSError) -> str:
    """What keeps a directory from being written, for messages."""
    there = next(path for path in (workdir, *workdir.absolute().parents) if path.exists())
    if not there.is_dir():
        return f'{there} is a file, and must be a directory'
    reason = '' if error.errno in (errno.ENOENT, errno.EEXIST) else f': {why(error)}'
    return f'nothing can be made in {there}{reason}'
