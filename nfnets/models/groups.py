"""The parts of a network that metrics tell apart: its stem, its stages and its head."""

import bisect
import itertools
import re
from collections.abc import Sequence
from typing import Any

import haiku as hk
import jax

_BLOCK = re.compile(r'/\w*block(?:_(\d+))?(?:/|$)')
_STEM = re.compile(r'/(?:stem|initial)_conv')


def layer_group(module_name: str, depths: Sequence[int]) -> str:
    """The part that a module of a network is of.

    Args:
      module_name: as in the parameters, such as 'NFNet/~/nf_block_3/~/conv1'; all networks here name
        stem and blocks alike.
      depths: blocks of each stage.

    Returns:
      'stem', 'stage1', 'stage2' and so on, or 'head' for what follows the stages.
    """
    block = _BLOCK.search(module_name)
    if block:
        ends = list(itertools.accumulate(depths))
        return f'stage{1 + bisect.bisect_right(ends, int(block[1] or 0))}'
    return 'stem' if _STEM.search(module_name) else 'head'


def layer_groups(params: hk.Params, depths: Sequence[int]) -> Any:
    """The part that each parameter is of, as a tree like `params`."""
    return jax.tree.map_with_path(lambda path, _: layer_group(path[0].key, depths), params)
