"""Runs on each host of a TPU: sets it up, and starts and stops training in the background.

`pod.py setup` sends it there, beside the code. It needs curl and the system's Python, 3.8 or later.
Below the home directory:

    worker.py, code.tar.gz    as sent
    nfnets/                   the code
    venv/                     Python 3.11 and what the code needs
    training/log              what training printed, of all starts
    training/lock             held while training is under way
    training/ready            the boot that it was set up in: a reboot takes what is in memory
    training/status           its exit status, once it has ended
    training/pid              its process group
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

HOME = Path.home()
CODE = HOME / 'nfnets'
PYTHON = HOME / 'venv' / 'bin' / 'python'
TRAINING = HOME / 'training'
READY, LOG, LOCK, STATUS, PID = (TRAINING / name for name in ('ready', 'log', 'lock', 'status', 'pid'))
BOOT = Path('/proc/sys/kernel/random/boot_id')
UV = HOME / 'uv' / 'uv'
UV_INSTALLER = 'https://astral.sh/uv/0.13.9/install.sh'
GRACE = 120  # Seconds that training has to save its state before it is killed.


def set_up(more: list[str]) -> None:
    """Unpacks the code, installs Python 3.11 and what requirements.txt pins, and runs more commands."""
    lock = take_lock()
    if lock is None:
        sys.exit('training is under way here: stop it before setting up')
    for path in (READY, STATUS, PID):
        path.unlink(missing_ok=True)
    shutil.rmtree(CODE, ignore_errors=True)
    os.chdir(HOME)
    _call('tar', 'xzf', 'code.tar.gz')
    _call('curl', '-LsSf', '--retry', '5', '-o', 'install_uv.sh', UV_INSTALLER)
    _call('env', f'UV_INSTALL_DIR={UV.parent}', 'UV_NO_MODIFY_PATH=1', 'sh', 'install_uv.sh', '--quiet')
    _call(str(UV), 'venv', '--quiet', '--allow-existing', '--python', '3.11', 'venv')
    into = ['--python', 'venv/bin/python', '--constraints', 'nfnets/requirements.txt']
    # Editable, so that the code that was sent last runs: uv builds a package of the same version once.
    package = ['--editable', './nfnets[train,tpu,cloud]']
    _call(str(UV), 'pip', 'install', '--quiet', *into, *package)
    for command in more:
        _call('sh', '-c', command)
    READY.write_text(BOOT.read_text())
    os.close(lock)


def start(arguments: list[str]) -> None:
    """Starts scripts/train.py, detached from this process and its session."""
    lock = take_lock()
    if lock is None:
        sys.exit('training is under way here already')
    STATUS.unlink(missing_ok=True)
    with LOG.open('ab') as log:
        process = subprocess.Popen(
            [sys.executable, __file__, 'run', str(lock), *arguments],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            pass_fds=[lock],
        )
    PID.write_text(str(process.pid))
    os.close(lock)


def run(lock: int, arguments: list[str]) -> None:
    """Trains, and leaves the exit status. It and training hold the lock: either is enough."""
    signal.signal(signal.SIGTERM, lambda *_: None)  # Training gets it too; this process waits for it.
    command = [str(PYTHON), 'scripts/train.py', *arguments]
    status = subprocess.Popen(command, cwd=CODE, pass_fds=[lock]).wait()
    draft = STATUS.with_name('status.tmp')
    draft.write_text(str(status))
    draft.replace(STATUS)


def stop() -> None:
    """Asks training to save its state and to end, and kills it if it does not in time."""
    number, deadline = signal.SIGTERM, time.monotonic()
    while is_training():
        if time.monotonic() >= deadline:
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                os.killpg(int(PID.read_text()), number)
            number, deadline = signal.SIGKILL, time.monotonic() + GRACE
        time.sleep(0.1)


def state() -> str:
    """'new', 'ready', 'running', 'ended STATUS', or 'lost' if it ended without leaving a status."""
    if is_training():
        return 'running'
    if not READY.exists() or READY.read_text() != BOOT.read_text():
        return 'new'
    if STATUS.exists():
        return f'ended {STATUS.read_text()}'
    return 'lost' if PID.exists() else 'ready'


def last_line() -> str:
    """The last line of training's output; the lines of a progress bar end in a carriage return."""
    if not LOG.exists():
        return ''
    with LOG.open('rb') as log:
        log.seek(max(0, LOG.stat().st_size - 4096))
        lines = log.read().decode(errors='replace').replace('\r', '\n').split('\n')
    return next((line.strip()[:300] for line in reversed(lines) if line.strip()), '')


def take_lock() -> int | None:
    """A file descriptor that holds the lock until it is closed everywhere; None if training holds it."""
    TRAINING.mkdir(exist_ok=True)
    descriptor = os.open(LOCK, os.O_RDWR | os.O_CREAT)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


def is_training() -> bool:
    lock = take_lock()
    if lock is not None:
        os.close(lock)
    return lock is None


def _call(*command: str) -> None:
    print('+', *command, flush=True)
    status = subprocess.run(command, stdin=subprocess.DEVNULL, check=False).returncode
    if status:
        sys.exit(f'{socket.gethostname()}: {command[0]} failed with status {status}')


def main(command: str, *arguments: str) -> None:
    """Does what is asked, then says how training stands here."""
    if command == 'run':
        return run(int(arguments[0]), list(arguments[1:]))
    if command == 'setup':
        set_up(list(arguments))
    elif command == 'start':
        start(list(arguments))
    elif command == 'stop':
        stop()
    print(f'nfnets-worker {socket.gethostname()} {state()} | {last_line()}', flush=True)


if __name__ == '__main__':
    main(*sys.argv[1:])
