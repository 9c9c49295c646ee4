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


def check_pattern(pattern: str, parameter_names: Iterable[str]) -> None:
    """Refuses a pattern that is no regular expression, or finds none or all of the parameters.

    Raises:
      InputError: says so, with names that there are.
    """
    if not pattern:
        return
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise InputError(f'optimizer.freeze={pattern} is no regular expression: {error}') from error
    names = list(parameter_names)
    found = sum(compiled.search(name) is not None for name in names)
    if found == 0:
        raise InputError(
            f'optimizer.freeze={pattern} is found in no parameter; there are {", ".join(names[:4])}, ...'
        )
    if found == len(names):
        raise InputError(
            f'optimizer.freeze={pattern} is found in all {found} parameters: nothing would be trained'
        )
