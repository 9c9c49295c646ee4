"""Runs a script so that a mistake in what was given costs one line, not a traceback."""

import argparse
import ast
import contextlib
import difflib
import functools
import os
import re
import signal
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

import ml_collections
from absl import app, flags, logging
from etils import epath

from nfnets import host
from nfnets.cli_help import help_text
from nfnets.config import allowed, flatten, get
from nfnets.errors import InputError, Interrupted, Preempted, TrainingStopped
from nfnets.files import as_path, bucket_errors, failure, why
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

    if any(re.fullmatch('-h|--?help|--?helpshort', argument) for argument in sys.argv[1:]):
        print(help_text(settings))  # Absl would tell of the flags alone.
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


def path_argument(text: str) -> epath.Path:
    """A path as `as_path` takes it, for `type` of argparse."""
    try:
        return as_path(text)
    except InputError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def is_given(flag: str) -> bool:
    """Whether a flag such as 'config' stands on the command line; --config.NAME=VALUE is another flag."""
    return any(re.match(rf'--?{flag}(?:=|$)', argument) for argument in sys.argv[1:])


def _parse(argv: list[str], settings: ml_collections.ConfigDict) -> list[str]:
    arguments = argv[1:]
    try:
        _check_empty(arguments)
        file = _check_file(arguments)
        _check_overrides(arguments, settings)
        with _telling_where(file):
            program, *words = flags.FLAGS(argv)
        _refuse(words, arguments)
        if file is not None:
            _check_config(file, flags.FLAGS['config'].value, settings)
    except (InputError, flags.Error, OSError, TypeError, KeyError, AttributeError, ValueError) as error:
        _exit(2, error)
    return [program]


def _check_empty(arguments: list[str]) -> None:
    """An empty path would be the folder that the script is started in."""
    for argument in arguments:
        if re.fullmatch(r'--?(?!-|config=)[\w-]+=', argument):
            raise InputError(f'{argument} has no value after the =')


def _refuse(words: list[str], arguments: list[str]) -> None:
    if not words:
        return
    before = ('', *arguments)[arguments.index(words[0])]
    could_be_its_value = before.startswith('-') and '=' not in before
    several = _taking_several(arguments[: arguments.index(words[0])])
    if could_be_its_value:
        meant = f'did you mean {before}={words[0]}?'
    elif several:
        meant = f'did you mean --{several}={words[0]}?'
    else:
        meant = 'settings are --config.GROUP.NAME=VALUE'
    raise InputError(f'{words[0]!r} belongs to no flag; {meant}')


def _taking_several(arguments: list[str]) -> str | None:
    """The flag whose value the last of some arguments is, if it may be given several times."""
    before, last = ['', '', *arguments][-2:]
    name = (last if '=' in last else before).lstrip('-').partition('=')[0]
    return name if name in flags.FLAGS and isinstance(flags.FLAGS[name], flags.MultiFlag) else None


def _check_file(arguments: list[str]) -> str | None:
    """The config file that was given, if one was, which is there and seems to be one."""
    found = re.search(r'(?:^|\0)--?config[=\0]([^\0:]*)(:?)', '\0'.join(arguments))
    if not found:
        return None
    file, colon = found.groups()
    there = ', '.join(sorted(str(path) for path in Path('configs').glob('*.py'))) or 'none here'
    if not Path(file).is_file():
        raise InputError(f'--config={file}: there is no such file; there are {there}')
    if not file.endswith('.py'):
        raise InputError(f'--config={file} is no config file, which ends in .py; there are {there}')
    try:
        tree = ast.parse(Path(file).read_text(encoding='utf-8'))
    except (SyntaxError, ValueError) as error:
        line = f', line {error.lineno}' if isinstance(error, SyntaxError) else ''
        raise InputError(f'--config={file}{line}: it is not Python: {error.args[0]}') from error
    functions = [f for f in tree.body if isinstance(f, ast.FunctionDef) and f.name == 'get_config']
    if colon and any(not (f.args.args or f.args.vararg) for f in functions):
        raise InputError(f'--config={file}:...: {file} has no variants; give --config={file}')
    return file


@contextlib.contextmanager
def _telling_where(file: str | None) -> Iterator[None]:
    """Names the line of a config file that fails."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        frames = traceback.extract_tb(error.__traceback__)
        lines = [frame.lineno for frame in frames if file and Path(frame.filename) == Path(file)]
        if lines:
            raise InputError(f'--config={file}, line {lines[-1]}: {_told(error)}') from error
        if "no attribute 'get_config'" in str(error):
            raise InputError(f'--config={file} has no function get_config; {_BEGIN}') from error
        raise


def _check_config(file: str, config: Any, settings: ml_collections.ConfigDict) -> None:
    """Refuses the config of a file that is not made from the default one."""
    if not isinstance(config, ml_collections.ConfigDict):
        raise InputError(f'--config={file}: get_config() gives no ConfigDict; {_BEGIN}')
    lacking = flatten(settings.to_dict()).keys() - flatten(config.to_dict()).keys()
    if lacking:
        raise InputError(f'--config={file} lacks {len(lacking)} settings, as {min(lacking)}; {_BEGIN}')


_BEGIN = 'it must change and return what get_config() of configs/default.py gives'


def _check_overrides(arguments: list[str], settings: ml_collections.ConfigDict) -> None:
    known = flatten(settings.to_dict())
    for argument, following in zip(arguments, [*arguments[1:], None], strict=True):
        found = re.match(r'--?(no)?config\.([^=]+)(?:=(.*))?$', argument)
        if not found:
            continue
        key, value = found[2], found[3]
        if key in known:
            if value is None and get_type(settings, key) is not bool:  # Then Absl takes the next argument.
                value = following
            _check_value(key, value, known[key], settings)
            continue
        given = argument if value is None else f'--config.{key}={value}'
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
    if kind not in _PARSERS or (default is None and value in ('None', 'none')):
        return
    is_right, must_be = _PARSERS[kind]
    if value is None:
        if kind is not bool:
            raise InputError(f'--config.{key} has no value: {key} must be {must_be}')
    elif not is_right(value):
        must_be = allowed(key) if kind is tuple else must_be
        raise InputError(f'--config.{key}={value}: {key} must be {must_be}')


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


def _is_of_numbers(text: str) -> bool:
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return False
    return all(type(x) in (int, float) for x in (value if isinstance(value, tuple | list) else [value]))


_PARSERS: dict[type, tuple[Callable[[str], bool], str]] = {
    int: (_reads(int), 'a whole number'),
    float: (_reads(float), 'a number'),
    bool: (lambda text: text.lower() in ('true', 'false', 't', 'f', '1', '0'), 'True or False'),
    tuple: (_is_of_numbers, 'numbers, as in (1,2)'),
}


def _told(error: BaseException) -> str:
    """What an error says, in one line."""
    text = str(error)
    if 'Traceback' in text:  # config_flags tells of an error in a config file this way.
        text = text.strip().splitlines()[-1].partition(': ')[2]
    with contextlib.suppress(ValueError, SyntaxError):
        text = str(ast.literal_eval(text))  # Of a missing key: in quotation marks, with \\n for line breaks.
    text = re.sub(r'invalid literal for int\(\).*', 'it must be a whole number', text)
    return ' '.join(text.split())


def _exit(status: int, error: BaseException) -> NoReturn:
    print(f'error: {_told(error)}', file=sys.stderr)
    host.leave(status)
