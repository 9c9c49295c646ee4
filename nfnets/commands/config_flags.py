"""Reads `--config=NAME`, `--config=FILE:VARIANT` and `--config.GROUP.NAME=VALUE` from a command line."""

import argparse
import ast
import difflib
import importlib.util
import re
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import ml_collections

from nfnets import configs
from nfnets.commands.command_line import Parser
from nfnets.config import flatten, get
from nfnets.config_rules import MIXTURE_FIELDS, allowed
from nfnets.configs import default
from nfnets.errors import InputError

CONFIGS = Path(configs.__file__).parent
_FLAG = re.compile(r'--?(no)?config(?:\.([^=]+))?(?:=(.*))?', re.DOTALL)
_OF_MIXTURE = re.compile(rf'data\.mixture\.([^.]+)\.({"|".join(MIXTURE_FIELDS)})')
_BEGIN = 'it must change and return what get_config() of nfnets.configs.default gives'


class Given(NamedTuple):
    """The config that a command line gives.

    Attributes:
      config: as in `configs/default.py`, with the overrides in it.
      overrides: settings given one by one, by key such as 'train.steps'.
      has_file: whether a config file was given.
    """

    config: ml_collections.ConfigDict
    overrides: dict[str, Any]
    has_file: bool


def parse(parser: Parser, argv: Sequence[str], fallback: str | None = None) -> tuple[Given, Any]:
    """Parses a command line of config flags and others.

    Args:
      parser: of the other flags.
      argv: the words of the command line.
      fallback: config file to use where none is given; None: one must be given.

    Returns:
      The config that it gives, and the parser's namespace.

    Raises:
      InputError: names the word, and what would be allowed.
    """
    known = default.get_config()
    file, overrides, rest = None, {}, []
    words = list(argv)
    while words:
        word = words.pop(0)
        found = _FLAG.fullmatch(word)
        if found is None or (found[1] and not found[2]):
            rest.append(word)
            continue
        negated, key, value = found.groups()
        if key is not None:
            _check_key(key, word, known)
            _make_room(known, key)
        if value is None and words and not (key and _type(known, key) is bool):
            value = words.pop(0)
        if key is None:
            file = value or ''
        elif negated:
            overrides[key] = False
        else:
            overrides[key] = _parse_value(key, value, known)
    arguments, left = parser.parse_known_args(rest)
    _refuse(left, list(argv), parser)
    if file is None and fallback is None:
        raise InputError('--config is required: a config by name, as in --config=digits, or a file')
    config = load(fallback or '' if file is None else file)
    for key in overrides:
        _make_room(config, key)
    config.update_from_flattened_dict(overrides)
    return Given(config, overrides, file is not None), arguments


def load(given: str) -> ml_collections.ConfigDict:
    """The config that a name or file, perhaps with ':VARIANT', stands for.

    Raises:
      InputError: there is no such file, or it fails, or gives no config that was made from the default one.
    """
    name, colon, variant = given.partition(':')
    path = _find(name)
    try:
        tree = ast.parse(path.read_text(encoding='utf-8'))
    except (SyntaxError, ValueError) as error:
        line = f', line {error.lineno}' if isinstance(error, SyntaxError) else ''
        raise InputError(f'--config={name}{line}: it is not Python: {error.args[0]}') from error
    functions = [f for f in tree.body if isinstance(f, ast.FunctionDef) and f.name == 'get_config']
    if colon and any(not (f.args.args or f.args.vararg) for f in functions):
        raise InputError(f'--config={given}: {path} has no variants; give --config={name}')
    if not functions:
        raise InputError(f'--config={name} has no function get_config; {_BEGIN}')
    try:
        get_config = _load_function(path)
        config = get_config(variant) if colon else get_config()
    except InputError:
        raise
    except Exception as error:
        lines = [f.lineno for f in traceback.extract_tb(error.__traceback__) if Path(f.filename) == path]
        raise InputError(f'--config={name}, line {lines[-1] if lines else 1}: {_text(error)}') from error
    if not isinstance(config, ml_collections.ConfigDict):
        raise InputError(f'--config={name}: get_config() gives no ConfigDict; {_BEGIN}')
    lacking = [key for key in flatten(default.get_config().to_dict()) if not _has(config, key)]
    if lacking:
        raise InputError(f'--config={name} lacks {len(lacking)} settings, as {min(lacking)}; {_BEGIN}')
    return config


def names() -> list[str]:
    """The configs that come with the package."""
    return sorted(path.stem for path in CONFIGS.glob('*.py') if path.stem != '__init__')


def _find(name: str) -> Path:
    if name in names():
        return CONFIGS / f'{name}.py'
    there = ', '.join(names())
    if not Path(name).is_file():
        raise InputError(f'--config={name}: there is no such file; configs by name: {there}')
    if not name.endswith('.py'):
        raise InputError(f'--config={name} is no config file, which ends in .py; configs by name: {there}')
    return Path(name).resolve()


def _load_function(path: Path) -> Callable[..., Any]:
    spec = importlib.util.spec_from_file_location(f'nfnets.configs.{path.stem}', path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.get_config


def _has(config: ml_collections.ConfigDict, key: str) -> bool:
    try:
        get(config, key)
    except (KeyError, TypeError):
        return False
    return True


def _make_room(config: ml_collections.ConfigDict, key: str) -> None:
    """Makes a field of a source of `data.mixture` None, if a key names one, so that it can be set."""
    if found := _OF_MIXTURE.fullmatch(key):
        name, field = found.groups()
        with config.unlocked():
            config.data.mixture[name] = {**config.data.mixture.get(name, {}), field: None}


def _check_key(key: str, word: str, known: ml_collections.ConfigDict) -> None:
    keys = flatten(known.to_dict())
    if key.startswith('data.mixture'):
        if not _OF_MIXTURE.fullmatch(key):
            raise InputError(
                f'{word}: give data.mixture.NAME.FIELD, of the fields {", ".join(MIXTURE_FIELDS)}'
            )
        return
    if key in keys:
        return
    if any(name.startswith(f'{key}.') for name in keys):
        raise InputError(f'{word}: {key} is a group of settings: {", ".join(get(known, key).keys())}')
    last = key.rpartition('.')[2]
    near = [name for name in keys if name.rpartition('.')[2] == last]
    near = near or difflib.get_close_matches(key, keys, n=1, cutoff=0.6)
    near = near or [name for name in keys if difflib.get_close_matches(last, [name.rpartition('.')[2]])]
    meant = f'did you mean {" or ".join(near)}?' if near else '--help lists them all'
    raise InputError(f'{word}: there is no such setting; {meant}')


def _type(known: ml_collections.ConfigDict, key: str) -> type:
    *groups, name = key.split('.')
    if groups[:2] == ['data', 'mixture']:
        return MIXTURE_FIELDS[name]
    return (get(known, '.'.join(groups)) if groups else known).get_type(name)


def _parse_value(key: str, text: str | None, known: ml_collections.ConfigDict) -> Any:
    kind = _type(known, key)
    if text is None:
        if kind is bool:
            return True
        raise InputError(f'--config.{key} has no value: {key} must be {_kind(key, kind)}')
    if get(known, key) is None and text in ('None', 'none'):
        return None
    try:
        return _PARSERS.get(kind, str)(text)
    except (ValueError, KeyError, SyntaxError) as error:
        raise InputError(f'--config.{key}={text}: {key} must be {_kind(key, kind)}') from error


def _kind(key: str, kind: type) -> str:
    names = {int: 'a whole number', float: 'a number', bool: 'True or False', str: 'given'}
    return allowed(key) if kind is tuple else names[kind]


def _parse_bool(text: str) -> bool:
    return {'true': True, 't': True, '1': True, 'false': False, 'f': False, '0': False}[text.lower()]


def _parse_numbers(text: str) -> tuple[int | float, ...]:
    value = ast.literal_eval(text)
    numbers = tuple(value) if isinstance(value, tuple | list) else (value,)
    if not all(type(x) in (int, float) for x in numbers):
        raise ValueError(text)
    return numbers


_PARSERS: dict[type, Callable[[str], Any]] = {
    int: int,
    float: float,
    bool: _parse_bool,
    tuple: _parse_numbers,
}


def _refuse(left: list[str], argv: list[str], parser: Parser) -> None:
    """Refuses words that belong to no flag, and guesses what was meant."""
    if not left:
        return
    word, place = left[0], argv.index(left[0])
    before, flag = ['', '', *argv][place : place + 2][::-1]
    name = (flag if flag.startswith('--') and not before.startswith('-') else before).partition('=')[0]
    action = parser._option_string_actions.get(name)
    meant = 'settings are --config.GROUP.NAME=VALUE'
    if before.startswith('--config.') and '=' not in before:
        meant = f'did you mean {before}={word}?'
    elif action is not None and action.nargs == 0:
        meant = f'{name} takes no value'
    elif isinstance(action, argparse._AppendAction):
        meant = f'did you mean {name}={word}?'
    raise InputError(f'{word!r} belongs to no flag; {meant}')


def _text(error: Exception) -> str:
    text = str(error)
    if isinstance(error, KeyError | AttributeError) and error.args:
        text = str(error.args[0])
    if isinstance(error, ModuleNotFoundError) and error.name == 'configs':
        text += '; write from nfnets.configs import default'
    return ' '.join(text.split())
