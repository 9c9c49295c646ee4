"""The parts of a network, by the names of its modules: stem, stages, their blocks, and head."""

import bisect
import itertools
import re
from collections.abc import Sequence
from typing import Any

import haiku as hk
import jax

_BLOCK = re.compile(r'/\w*block(?:_(\d+))?(?:/|$)')
_STEM = re.compile(r'/(?:stem|initial)_conv')


def block_of(module_name: str) -> tuple[int, str] | None:
    """The block that a module is of, counted from 0 through the network, and its name in there; or None.

    All networks here name stem and blocks alike: 'NFNet/~/nf_block_3/~/conv1' is (3, '~/conv1').
    """
    match = _BLOCK.search(module_name)
    return (int(match[1] or 0), module_name[match.end() :]) if match else None


def layer_group(module_name: str, depths: Sequence[int]) -> str:
    """The part that a module of a network is of.

    Args:
      module_name: as in the parameters; a parameter's own name may follow.
      depths: blocks of each stage.

    Returns:
      'stem', 'stage1', 'stage2' and so on, or 'head' for what follows the stages.
    """
    block = block_of(module_name)
    if block:
        ends = list(itertools.accumulate(depths))
        return f'stage{1 + bisect.bisect_right(ends, block[0])}'
    return 'stem' if _STEM.search(module_name) else 'head'


def layer_groups(params: hk.Params, depths: Sequence[int]) -> Any:
    """The part that each parameter is of, as a tree like `params`."""
    return jax.tree.map_with_path(lambda path, _: layer_group(path[0].key, depths), params)
