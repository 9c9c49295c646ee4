"""Runs a script so that a mistake in what was given costs one line, not a traceback."""

import difflib
import functools
import os
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import ml_collections
from absl import app, flags, logging

from nfnets import host
from nfnets.config import flatten, get
from nfnets.errors import InputError, Preempted, TrainingStopped
from nfnets.files import bucket_errors, failure, why

_START_AGAIN = os.EX_TEMPFAIL  # 75.


def run(main: Callable[[Sequence[str]], None], settings: ml_collections.ConfigDict) -> None:
    """Parses the flags and calls `main`; does not return. On a CPU the process may first start anew.

    Exit status 2 and one line for a mistake in flags, settings, data or working directory; 1 and one
    line when training had to stop; 75 and one line when it was asked to end and wants to be started again.

    Args:
      main: takes the positional arguments, program name first.
      settings: a config with every key there is, to name the one that a mistyped key was meant to be.
    """

    host.tune()
    app.run(
        lambda argv: guard(functools.partial(main, argv)),
        flags_parser=lambda argv: _parse(list(argv), settings),
    )


def guard(main: Callable[[], None]) -> None:
    """Calls `main`; exits with one line, and the status that `run` documents, if it raises for its user."""
    logging.set_verbosity(logging.WARNING)  # Orbax tells of every file.
    try:
        main()
    except InputError as error:
        _exit(2, error)
    except TrainingStopped as error:
        _exit(1, error)
    except bucket_errors() as error:
        told = failure(why(error), error)
        _exit(2 if isinstance(told, InputError) else 1, told)
    except Preempted as error:
        _exit(_START_AGAIN, error)


def _parse(argv: list[str], settings: ml_collections.ConfigDict) -> list[str]:
    try:
        _check_file(argv[1:])
        _check_overrides(argv[1:], settings)
        return flags.FLAGS(argv)
    except (InputError, flags.Error, OSError, TypeError, KeyError, AttributeError) as error:
        return _exit(2, error)


def _check_file(arguments: list[str]) -> None:
    joined = '\0'.join(arguments)
    found = re.search(r'(?:^|\0)--?config[=\0]([^\0:]+)', joined)
    if found and not Path(found[1]).is_file():
        there = ', '.join(sorted(str(path) for path in Path('configs').glob('*.py')))
        raise InputError(f'--config={found[1]}: there is no such file; there are {there or "none here"}')


def _check_overrides(arguments: list[str], settings: ml_collections.ConfigDict) -> None:
    known = flatten(settings.to_dict())
    for argument in arguments:
        found = re.match(r'--?(?:no)?config\.([^=]+)(?:=(.*))?$', argument)
        if not found or found[1] in known:
            continue
        key, value = found[1], found[2]
        given = f'--config.{key}' + ('' if value is None else f'={value}')
        if any(name.startswith(key + '.') for name in known):
            names = ', '.join(get(settings, key).keys())
            raise InputError(f'{given}: {key} is a group of settings: {names}')
        last = key.rsplit('.', 1)[-1]
        near = [name for name in known if name.rsplit('.', 1)[-1] == last]
        near = near or difflib.get_close_matches(key, known, n=1, cutoff=0.6)
        near = near or [name for name in known if difflib.get_close_matches(last, name.split('.')[-1:])]
        meant = f'did you mean {" or ".join(near)}?' if near else 'configs/default.py lists them all'
        raise InputError(f'{given}: there is no such setting; {meant}')


def _exit(status: int, error: BaseException) -> list[str]:
    text = str(error)
    if 'Traceback' in text:  # config_flags tells of an error in a config file this way.
        text = text.strip().splitlines()[-1].partition(': ')[2]
    line = ' '.join(text.split())
    print(f'error: {line}', file=sys.stderr)
    sys.exit(status)
