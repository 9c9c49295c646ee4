"""Keeps a second run out of a working directory while one is under way."""

import fcntl
from pathlib import Path
from typing import TextIO

import jax

from nfnets.errors import InputError


class WorkdirLock:
    """Held by process 0 while a run is under way; the system lets go of it however the process ends."""

    def __init__(self, workdir: Path):
        """Args: workdir is created where missing. Raises InputError: it is in use, or cannot be used."""
        self._file: TextIO | None = None
        if jax.process_index() != 0:
            return
        try:
            workdir.mkdir(parents=True, exist_ok=True)
            self._file = (workdir / 'lock').open('w')
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            self.close()
            raise InputError(f'workdir {workdir} is in use by a run that is under way') from error
        except OSError as error:
            raise InputError(f'workdir {workdir} cannot be used: {error}') from error

    def close(self) -> None:
        """Lets others in."""
        if self._file is not None:
            self._file.close()
