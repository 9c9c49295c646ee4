"""Runs a script so that a mistake in what was given costs one line, not a traceback."""

import difflib
import functools
import os
import re
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

import ml_collections
from absl import app, flags, logging

from nfnets import host
from nfnets.config import flatten, get
from nfnets.errors import InputError, Interrupted, Preempted, TrainingStopped
from nfnets.files import bucket_errors, failure, why
from nfnets.interrupts import EXIT_CODES, SignalWatch, end_now


def run(main: Callable[[Sequence[str]], None], settings: ml_collections.ConfigDict) -> None:
    """Parses the flags and calls `main`; does not return. On a CPU the process may first start anew.

    Exit status 2 and one line for a mistake in flags, settings, data or working directory; 1 and one
    line when training had to stop; 75 and one line after SIGTERM, when it wants to be started again, and 130
    after Ctrl-C.

    Args:
      main: takes the program's name alone: words that are no flags are refused.
      settings: a config with every key there is, to name the one that a mistyped key was meant to be.
    """

    def run_and_leave(argv: Sequence[str]) -> None:
        guard(functools.partial(main, argv))
        host.leave(0)

    host.tune()
    app.run(
        run_and_leave,
        flags_parser=lambda argv: _parse(list(argv), settings),
    )


def guard(main: Callable[[], None]) -> None:
    """Calls `main`; exits with one line, and the status that `run` documents, if it raises for its user."""
    logging.set_verbosity(logging.WARNING)  # Orbax tells of every file.
    os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '2')  # TensorFlow warns of what concerns nobody here.
    watch = SignalWatch([signal.SIGINT], lambda number: end_now(number, 'interrupted'))
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
        _exit(EXIT_CODES[signal.SIGINT if isinstance(error, Interrupted) else signal.SIGTERM], error)
    finally:
        watch.close()


def is_given(flag: str) -> bool:
    """Whether a flag such as 'config' stands on the command line; --config.NAME=VALUE is another flag."""
    return any(re.match(rf'--?{flag}(?:=|$)', argument) for argument in sys.argv[1:])


def _parse(argv: list[str], settings: ml_collections.ConfigDict) -> list[str]:
    try:
        _check_file(argv[1:])
        _check_overrides(argv[1:], settings)
        program, *words = flags.FLAGS(argv)
        _refuse(words, argv[1:])
    except (InputError, flags.Error, OSError, TypeError, KeyError, AttributeError, ValueError) as error:
        _exit(2, error)
    return [program]


def _refuse(words: list[str], arguments: list[str]) -> None:
    if not words:
        return
    before = ('', *arguments)[arguments.index(words[0])]
    could_be_its_value = before.startswith('-') and '=' not in before
    meant = (
        f'did you mean {before}={words[0]}?'
        if could_be_its_value
        else 'settings are --config.GROUP.NAME=VALUE'
    )
    raise InputError(f'{words[0]!r} belongs to no flag; {meant}')


def _check_file(arguments: list[str]) -> None:
    joined = '\0'.join(arguments)
    found = re.search(r'(?:^|\0)--?config[=\0]([^\0:]+)', joined)
    if not found:
        return
    there = ', '.join(sorted(str(path) for path in Path('configs').glob('*.py'))) or 'none here'
    if not Path(found[1]).is_file():
        raise InputError(f'--config={found[1]}: there is no such file; there are {there}')
    if not found[1].endswith('.py'):
        raise InputError(f'--config={found[1]} is no config file, which ends in .py; there are {there}')


def _check_overrides(arguments: list[str], settings: ml_collections.ConfigDict) -> None:
    known = flatten(settings.to_dict())
    for argument in arguments:
        found = re.match(r'--?(?:no)?config\.([^=]+)(?:=(.*))?$', argument)
        if not found:
            continue
        key, value = found[1], found[2]
        if key in known:
            _check_value(key, value, known[key], settings)
            continue
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


def _check_value(key: str, value: str | None, default: Any, settings: ml_collections.ConfigDict) -> None:
    """Names the setting where config_flags would tell only of the value."""
    kind = get_type(settings, key)
    if value is None or kind not in _PARSERS or (default is None and value in ('None', 'none')):
        return
    is_right, allowed = _PARSERS[kind]
    if not is_right(value):
        raise InputError(f'--config.{key}={value}: {key} must be {allowed}')


def get_type(settings: ml_collections.ConfigDict, key: str) -> type:
    """The type of a setting, whatever its value."""
    *groups, name = key.split('.')
    inside = get(settings, '.'.join(groups)) if groups else settings
    return inside.get_type(name)


def _reads(parse: Callable[[str], Any]) -> Callable[[str], bool]:
    def reads(text: str) -> bool:
        try:
            parse(text)
        except ValueError:
            return False
        return True

    return reads


_PARSERS: dict[type, tuple[Callable[[str], bool], str]] = {
    int: (_reads(int), 'a whole number'),
    float: (_reads(float), 'a number'),
    bool: (lambda text: text.lower() in ('true', 'false', 't', 'f', '1', '0'), 'True or False'),
}


def _exit(status: int, error: BaseException) -> NoReturn:
    text = str(error)
    if 'Traceback' in text:  # config_flags tells of an error in a config file this way.
        text = text.strip().splitlines()[-1].partition(': ')[2]
    line = ' '.join(text.split())
    print(f'error: {line}', file=sys.stderr)
    host.leave(status)
