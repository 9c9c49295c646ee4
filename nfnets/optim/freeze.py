"""Parameters that training leaves as they are, chosen by a pattern of their names."""

import re
from collections.abc import Callable, Iterable

from nfnets.errors import InputError

Predicate = Callable[[str, str], bool]


def nothing_frozen(module: str, name: str) -> bool:
    """Every parameter is trained."""
    del module, name
    return False


def frozen_by(pattern: str) -> Predicate:
    """Whether a parameter, by module and name, is frozen: where the pattern is found in 'module/name'.

    Args:
      pattern: a regular expression; '' for nothing.
    """
    compiled = re.compile(pattern)
    if not pattern:
        return nothing_frozen
    return lambda module, name: compiled.search(f'{module}/{name}') is not None


def all_but(pattern: str) -> Predicate:
    """Whether a pattern is not found in a parameter's 'module/name'; '' is found in none."""
    is_found = frozen_by(pattern)
    return lambda module, name: not is_found(module, name)


def check_pattern(key: str, pattern: str, parameter_names: Iterable[str]) -> None:
    """Refuses a pattern that is no regular expression, or finds none or all of the parameters.

    Args:
      key: of the setting that the pattern is the value of.
      pattern: '' is allowed.
      parameter_names: 'module/name' of all parameters.

    Raises:
      InputError: says so, with names that there are.
    """
    if not pattern:
        return
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise InputError(f'{key}={pattern} is no regular expression: {error}') from error
    names = list(parameter_names)
    found = sum(compiled.search(name) is not None for name in names)
    if found == 0:
        raise InputError(f'{key}={pattern} is found in no parameter; there are {", ".join(names[:4])}, ...')
    if found == len(names):
        raise InputError(f'{key}={pattern} is found in all {found} parameters: none would be left')
