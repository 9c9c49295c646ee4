"""Runs programs so that their failure costs one line."""

import contextlib
import os
import signal
import subprocess
from pathlib import Path

from job import InvalidJob, LaunchError


class CallFailed(LaunchError):
    """A call failed; later it may succeed."""


def run(command: list[str], at: Path, *, seconds: float, shows: bool = False, asks: bool = False) -> str:
    """Runs a program, and returns what it prints.

    Args:
      at: directory where it runs.
      seconds: after which it is ended, with everything that it started.
      shows: lets the user see what it prints, instead.
      asks: lets it ask, too.

    Raises:
      CallFailed: it failed, or took too long.
      InvalidJob: it is not installed.
    """
    pipe = None if shows or asks else subprocess.PIPE
    name = ' '.join(command[: next((i for i, word in enumerate(command) if word[0] == '-'), None)])
    try:
        process = subprocess.Popen(
            command,
            cwd=at,
            stdin=None if asks else subprocess.DEVNULL,
            stdout=pipe,
            stderr=pipe,
            text=True,
            process_group=None if asks else 0,  # A group of its own may not read the terminal.
        )
    except FileNotFoundError as error:
        hint = ': https://cloud.google.com/sdk/docs/install' if command[0] == 'gcloud' else ''
        raise InvalidJob(f'{command[0]} is not installed, or not in PATH{hint}') from error
    with process:
        try:
            out, err = process.communicate(timeout=seconds)
        except BaseException as error:
            with contextlib.suppress(ProcessLookupError):
                process.kill() if asks else os.killpg(process.pid, signal.SIGKILL)
            if isinstance(error, subprocess.TimeoutExpired):
                raise CallFailed(f'`{name}` took more than {seconds} s') from error
            raise
    if process.returncode:
        raise CallFailed(f'`{name}` failed with status {process.returncode}: {_reason(err)}')
    return out or ''


def _reason(err: str | None) -> str:
    if err is None:
        return 'see above'
    lines = [line.strip() for line in err.splitlines() if line.strip()]
    return next((line for line in lines if line.startswith(('ERROR:', 'fatal:'))), ' '.join(lines[-1:]))
