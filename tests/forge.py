"""Commands in processes that start in a moment: copies of one that has imported everything.

To import what a command needs takes some seconds of CPU time. Here one process, the fork server of
`multiprocessing`, imports all of it and computes nothing; each command runs in a copy of it made by `fork`,
which it finds as fresh as any process: JAX has no devices yet, and no thread of Python's is under way. The
copy is a process for everything that is done to one: it has its environment, its output and its end, and
takes signals.
"""

import atexit
import gc
import importlib
import multiprocessing
import multiprocessing.connection
import multiprocessing.forkserver
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
import unittest.mock
from collections.abc import Callable, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
_context = multiprocessing.get_context('forkserver')
_context.set_forkserver_preload(
    [
        *(
            f'nfnets.commands.{name}'
            for name in ('convert', 'evaluate', 'export', 'plan', 'predict', 'publish', 'report', 'train')
        ),
        'nfnets.data.digits',
        'nfnets.export.write',
        'nfnets.html_report.write',
        'nfnets.inference.convert',
        'nfnets.inference.predict',
        'nfnets.inference.score',
        'nfnets.planning.plan',
        'nfnets.planning.plan_text',
        'nfnets.publishing.publish',
        'nfnets.train',
    ]
)
_ENVIRONMENT = dict(os.environ)  # Of the fork server: as it was before a test changed it.
_folders: list[tempfile.TemporaryDirectory] = []  # What processes print lies there until the tests end.


class Run:
    """A process, to be used as one of `subprocess.Popen` whose output is text.

    Attributes:
      pid: of the process.
      returncode: None until it was seen to have ended; minus its number if a signal ended it.
    """

    def __init__(self, process: multiprocessing.Process, outputs: Sequence[Path]):
        self._process, self._outputs = process, outputs
        self.pid = process.pid
        self.returncode: int | None = None

    def poll(self) -> int | None:
        self.returncode = self._process.exitcode
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        self._process.join(timeout)
        if self.poll() is None:
            raise subprocess.TimeoutExpired(self._process.name, timeout)
        return self.returncode

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """Its standard output and its standard error, if they are apart, after its end."""
        self.wait(timeout)
        return self.printed(), self._outputs[1].read_text() if len(self._outputs) > 1 else ''

    def printed(self) -> str:
        """Its standard output so far."""
        return self._outputs[0].read_text()

    def watch_end(self, timeout: float) -> float:
        """When it ends, or the time is over, in seconds of `time.monotonic`; for a thread of its own."""
        multiprocessing.connection.wait([self._process.sentinel], timeout)
        return time.monotonic()

    def wait_until_printed(self, text: str, timeout: float = 60) -> None:
        deadline = time.monotonic() + timeout
        while text not in self.printed():
            assert self.poll() is None, self.printed()
            assert time.monotonic() < deadline, self.printed()
            time.sleep(0.002)

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def start(
    command: str,
    arguments: Sequence[object],
    *,
    directory: Path = ROOT,
    changed: dict[str, str] | None = None,
    is_apart: bool = False,
    before: Callable[[], None] | None = None,
) -> Run:
    """Starts a command in a process of its own.

    Args:
      command: of nfnets/commands, such as 'train'.
      arguments: the words after its name.
      directory: where it runs.
      changed: environment variables, beside those of the tests.
      is_apart: whether standard error is kept apart from standard output.
      before: called in the process before the command; of a module that it can import.
    """
    return _start(_run_command, (command, [str(a) for a in arguments]), directory, changed, is_apart, before)


def start_program(text: str) -> Run:
    """Starts a program of Python in a process of its own; standard error comes with standard output."""
    return _start(_run_text, (text,), ROOT, None, False, None)


def _start(function, arguments, directory, changed, is_apart, before) -> Run:
    if not _folders:
        _folders.append(tempfile.TemporaryDirectory())
        with unittest.mock.patch.dict(os.environ, _ENVIRONMENT, clear=True):
            multiprocessing.forkserver.ensure_running()
    folder = Path(tempfile.mkdtemp(dir=_folders[0].name))
    outputs = [folder / name for name in ('out', 'err')[: 1 + is_apart]]
    for output in outputs:
        output.touch()
    environment = {**os.environ, **(changed or {})}
    process = _context.Process(
        target=_run,
        args=(function, arguments, directory, environment, outputs, before),
        name=f'{function.__name__}{arguments}',
        daemon=True,  # Ended with the tests, should one leave it.
    )
    process.start()
    return Run(process, outputs)


# ----------------------------------------------------------------- In the copy
def _run(function, arguments, directory, environment, outputs, before) -> None:
    assert threading.active_count() == 1, threading.enumerate()
    gc.freeze()  # Or the collector would touch, and so copy, all that was imported.
    _take_output(outputs[0], outputs[-1])
    os.chdir(directory)
    # As of a program that a user starts, though the tests run in the background, where it is ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    _take_environment(environment)
    status = 1
    try:
        if before is not None:
            before()
        function(*arguments)
        status = 0
    except SystemExit as error:
        status = error.code or 0
    except BaseException:
        traceback.print_exc()
    # As Python ends, which a copy does not come to.
    threading._shutdown()
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def _run_command(name: str, arguments: list[str]) -> None:
    sys.argv[:] = [f'nfnets-{name}', *arguments]
    importlib.import_module(f'nfnets.commands.{name}').main()


def _run_text(text: str) -> None:
    exec(compile(text, 'program', 'exec'), {'__name__': '__main__'})


def _take_output(out: Path, err: Path) -> None:
    for path, number in ((out, 1), (err, 2)):
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND)
        os.dup2(descriptor, number)
        os.close(descriptor)
    sys.stdout, sys.stderr = (open(number, 'w', buffering=1, closefd=False) for number in (1, 2))  # noqa: SIM115


def _take_environment(environment: dict[str, str]) -> None:
    """Makes it this process's, also for JAX, which has read its variables when it was imported."""
    import jax

    before = dict(os.environ)
    os.environ.clear()
    os.environ.update(environment)
    for name in {**before, **environment}:
        if name.startswith('JAX_') and before.get(name) != environment.get(name):
            kind, text = type(jax.config.values[name.lower()]), environment[name]
            parse = {bool: lambda text: text.lower() in ('true', '1'), int: int, float: float}.get(kind, str)
            jax.config.update(name.lower(), parse(text))
