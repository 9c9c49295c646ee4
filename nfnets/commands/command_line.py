"""Runs a command so that invalid input costs one line and an exit code, not a traceback."""

import argparse
import contextlib
import difflib
import os
import signal
import sys
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from etils import epath

from nfnets import host
from nfnets.errors import InputError, Interrupted, Preempted, TrainingStopped
from nfnets.files import as_path, bucket_errors, failure, why
from nfnets.run.interrupts import EXIT_CODES, SignalWatch, end_now
from nfnets.weights import by_name


class Parser(argparse.ArgumentParser):
    """Parses flags; invalid input raises `InputError` instead of printing the usage."""

    def __init__(self, doc: str | None = None, **settings: Any):
        """Args: doc is the docstring of the command, which `--help` begins with; settings are argparse's."""
        form = argparse.RawDescriptionHelpFormatter
        super().__init__(description=doc, formatter_class=form, allow_abbrev=False, **settings)

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """As argparse does, but an unknown flag is named before a missing one."""
        flags = self._option_string_actions
        for word in () if self._subparsers else args or ():
            name = word.partition('=')[0]
            if name.startswith('--') and name not in flags:
                near = difflib.get_close_matches(name, flags, n=1)
                hint = f'did you mean {near[0]}?' if near else '--help lists them all'
                raise InputError(f'unknown flag {name}; {hint}')
        return super().parse_known_args(args, namespace)

    def error(self, message: str) -> NoReturn:
        """Raises InputError."""
        raise InputError(message)


def run(main: Callable[[Sequence[str]], None], argv: Sequence[str] | None = None) -> NoReturn:
    """Calls `main` with the words after the command's name, and ends the process.

    Exit code 0; 2 and one line for invalid flags, settings, data or working directory; 1 and one line when
    training had to stop; 75 and one line after SIGTERM, when the same command resumes the run, and 130 after
    Ctrl-C.

    Args:
      main: raises `InputError`, `TrainingStopped` or `Preempted` for its user.
      argv: the words; None: those of this process.
    """
    with contextlib.suppress(ImportError):
        from absl import logging

        logging.set_verbosity(logging.WARNING)  # Orbax logs every file.
    # TensorFlow only decodes images here; it need not log what it could do besides.
    os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')
    os.environ.setdefault('TF_ENABLE_ONEDNN_OPTS', '0')
    watch = SignalWatch([signal.SIGINT], lambda number: end_now(number, 'interrupted'))
    status = 0
    try:
        main(sys.argv[1:] if argv is None else argv)
    except SystemExit as error:  # Of --help.
        status = int(error.code or 0)
    except Exception as error:
        status, message = _explain(error)
        print(f'error: {message}', file=sys.stderr)
    finally:
        watch.close()
    host.leave(status)


def _explain(error: Exception) -> tuple[int, str]:
    """The exit code of an error, and its message in one line; raises again what is a bug of this project."""
    if isinstance(error, ModuleNotFoundError) and not (error.name or '').startswith('nfnets'):
        extra = 'detection' if error.name == 'pycocotools' else 'train'
        return 2, f"{error.name} is not installed: pip install 'nfnets[{extra}]' has all that it takes"
    if isinstance(error, bucket_errors()):
        error = failure(why(error), error)
    message = ' '.join(str(error).split())
    if isinstance(error, Preempted):
        return EXIT_CODES[signal.SIGINT if isinstance(error, Interrupted) else signal.SIGTERM], message
    if isinstance(error, InputError | TrainingStopped):
        return (2 if isinstance(error, InputError) else 1), message
    raise error


def path_argument(text: str) -> epath.Path:
    """A path as `as_path` takes it, for `type` of argparse."""
    if not text:
        raise argparse.ArgumentTypeError('it has no value')
    try:
        return as_path(text)
    except InputError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def size_argument(text: str) -> int:
    """The side of a network's input, px, as the type of an argument."""
    if not (text.isascii() and text.isdecimal() and int(text) > 0):
        raise argparse.ArgumentTypeError(f'{text!r} must be a whole number of px, 1 px or more')
    return int(text)


def _checkpoint_argument(text: str) -> epath.Path:
    """As `path_argument`, or the name of a checkpoint."""
    path = path_argument(text)
    try:
        if by_name.is_name(path):
            by_name.check_name(text)
    except InputError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    return path


def add_checkpoint(
    parser: argparse.ArgumentParser,
    name: str,
    *,
    help: str = 'file, working directory of a run, or name of a checkpoint',
    **settings: Any,
) -> None:
    """Adds an argument that takes checkpoints, and the flags that go with it, `--ema` and `--offline`."""
    parser.add_argument(name, type=_checkpoint_argument, help=help, **settings)
    parser.add_argument('--ema', action='store_true', help="take the EMA of a run's parameters")
    parser.add_argument('--offline', action=Offline)


def add_processes(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of a distributed run, as `nfnets.run.processes.join` takes them."""
    parser.add_argument('--coordinator', help='HOST:PORT of process 0; a TPU slice needs none')
    parser.add_argument('--num-processes', type=int, help='number of processes of the run')
    parser.add_argument('--process-id', type=int, help='which of the processes this is, from 0')


class Offline(argparse.Action):
    """The flag `--offline`."""

    def __init__(self, **settings: Any):
        help = 'take checkpoints by name from the cache alone; as HF_HUB_OFFLINE=1 does'
        super().__init__(nargs=0, help=help, **settings)

    def __call__(self, *_: Any) -> None:
        # Before huggingface_hub is imported, which reads it once.
        os.environ['HF_HUB_OFFLINE'] = '1'
