"""Names of parameters, 'module/name' as in 'NFNet/~/nf_block_3/~/conv1/w', and what follows from them.

A property of parameters, such as whether AGC clips one, is a function of this name throughout the project.
"""

import bisect
import itertools
import re
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import jax

from nfnets.errors import InputError

T = TypeVar('T')
Predicate = Callable[[str], bool]

# Of each normalizer-free network, as in `model.name`, the module of its first block.
FIRST_BLOCKS = {
    'NFNet': 'NFNet/~/nf_block',
    'NFRegNet': 'NF_RegNet/~/nf_block',
    'NFResNet': 'NF_ResNet/~/nf_res_block',
}

_BLOCK = re.compile(r'/\w*block(?:_(\d+))?(?:/|$)')
_STEM = re.compile(r'/(?:stem|initial)_conv')
_CLASSIFIER = re.compile(r'[^/]+/~/linear(?:/\w+)?')


def map_names(fn: Callable[[str], T], params: Any) -> Any:
    """The property of every parameter's name, as a tree like the parameters."""
    return jax.tree.map_with_path(lambda path, _: fn(name_at(path)), params)


def name_at(path: Sequence[Any]) -> str:
    """'module/name' for a path in a tree {module: {name: array}}."""
    return jax.tree_util.keystr(tuple(path), simple=True, separator='/')


def block_module(first: str, index: int) -> str:
    """The module of a block, counted from 0 through the network, whose first block's this is."""
    return f'{first}_{index}' if index else first


def split_block(name: str) -> tuple[int, str, str] | None:
    """The index, the module and the rest of a name that is in a block; None outside of blocks.

    All networks here name blocks alike: 'NFNet/~/nf_block_3/~/conv1/w' is in block 3, whose module is
    'NFNet/~/nf_block_3', and the rest is '~/conv1/w'.
    """
    found = _BLOCK.search(name)
    if found is None:
        return None
    return int(found[1] or 0), name[: found.end()].rstrip('/'), name[found.end() :]


def layer_group(name: str, depths: Sequence[int]) -> str:
    """The part of a network that a parameter or module is in.

    Args:
      name: of either.
      depths: blocks of each stage.

    Returns:
      'stem', 'stage1', 'stage2' and so on, or 'head' for what follows the stages.
    """
    block = split_block(name)
    if block:
        ends = list(itertools.accumulate(depths))
        return f'stage{1 + bisect.bisect_right(ends, block[0])}'
    return 'stem' if _STEM.search(name) else 'head'


def is_classifier(name: str) -> bool:
    """Whether a name is that of the classifier's module, `NETWORK/~/linear`, or of a parameter in it."""
    return _CLASSIFIER.fullmatch(name) is not None


def found_by(pattern: str) -> Predicate:
    """Whether a regular expression is found in a name; '' is found in none."""
    compiled = re.compile(pattern)
    return lambda name: bool(pattern) and compiled.search(name) is not None


def all_but(pattern: str) -> Predicate:
    """Whether a regular expression is not found in a name; '' is found in none."""
    is_found = found_by(pattern)
    return lambda name: not is_found(name)


def check_pattern(key: str, pattern: str, names: Sequence[str]) -> None:
    """Refuses a pattern that is no regular expression, or finds none or all of the parameters.

    Args:
      key: of the setting that the pattern is the value of.
      pattern: '' is allowed.
      names: 'module/name' of all parameters.

    Raises:
      InputError: says so, with names that there are.
    """
    if not pattern:
        return
    try:
        found = sum(map(found_by(pattern), names))
    except re.error as error:
        raise InputError(f'{key}={pattern} is no regular expression: {error}') from error
    if found == 0:
        raise InputError(f'{key}={pattern} is found in no parameter; there are {", ".join(names[:4])}, ...')
    if found == len(names):
        raise InputError(f'{key}={pattern} is found in all {found} parameters: none would be left')
