"""Parameters of blocks that are alike, as one array: what is done for each is done for all at once.

Stacked, the modules of several blocks are one, by the name of the first block's, and its arrays have one axis
more in front, [blocks, ...]. `run_blocks` takes parameters in either form; files hold them apart.
"""

import itertools
import types
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np

from nfnets.models.groups import block_of

# By the name of a stacked module, the modules that it stands for, in order; others are as they were.
Stacks = Mapping[str, tuple[str, ...]]
NO_STACKS: Stacks = types.MappingProxyType({})


def stacks_of_alike(
    shapes: hk.Params, depths: Sequence[int], predicates: Sequence[Callable[[str, str], bool]] = ()
) -> Stacks:
    """Finds neighbouring blocks of a stage whose parameters are alike; a stage's first block never is.

    Args:
      shapes: {module: {name: array or shape}} of all parameters, apart.
      depths: blocks of each stage.
      predicates: of a parameter's module and name; blocks that differ in one are not stacked.
    """
    blocks: dict[int, dict[str, str]] = {}  # By index, the modules by their names inside.
    for module in sorted(shapes):
        block = block_of(module)
        if block:
            blocks.setdefault(block[0], {})[block[1]] = module

    def structure(index: int) -> list[Any]:
        return [
            (inside, name, x.shape, *(predicate(module, name) for predicate in predicates))
            for inside, module in blocks[index].items()
            for name, x in sorted(shapes[module].items())
        ]

    stacks = {}
    for end, depth in zip(itertools.accumulate(depths), depths, strict=True):
        for _, run in itertools.groupby(range(end - depth + 1, end), structure):
            first, *others = run
            for inside, module in blocks[first].items() if others else ():
                stacks[module] = (module, *(blocks[index][inside] for index in others))
    return stacks


def stack(params: hk.Params, stacks: Stacks) -> hk.Params:
    """Joins the arrays of blocks that are alike; NumPy's stay NumPy's."""
    joined = {module for modules in stacks.values() for module in modules}
    stacked = {
        first: jax.tree.map(lambda *arrays: _stack(arrays), *(params[module] for module in modules))
        for first, modules in stacks.items()
    }
    return {**{module: names for module, names in params.items() if module not in joined}, **stacked}


def _stack(arrays: Sequence[Any]) -> Any:
    return (np if isinstance(arrays[0], np.ndarray) else jnp).stack(arrays)


def unstack(params: hk.Params, stacks: Stacks) -> hk.Params:
    """Undoes `stack`; of NumPy's arrays it gives views."""
    apart = {module: names for module, names in params.items() if module not in stacks}
    for first, modules in stacks.items():
        for index, module in enumerate(modules):
            apart[module] = {name: x[index, ...] for name, x in params[first].items()}
    return apart


def is_stacked(params: hk.Params, stacks: Stacks) -> Any:
    """Whether each parameter is of several blocks, as a tree like `params`."""
    return jax.tree.map_with_path(lambda path, _: path[0].key in stacks, params)
