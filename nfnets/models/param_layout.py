"""Layout of a network's parameters in memory: those of blocks that are alike can be stacked in one array.

Stacked, the modules of several blocks are one, by the name of the first block's, and its arrays have one axis
more in front, [blocks, ...]: what is done for each block is compiled once. Files hold parameters unstacked.
"""

import dataclasses
import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np

from nfnets.models.param_names import name_at, split_block


@dataclasses.dataclass(frozen=True)
class ParamLayout:
    """Which blocks of a network have their parameters stacked.

    Attributes:
      runs: the modules of neighboring blocks that are stacked together, in order; two or more in each.
    """

    runs: tuple[tuple[str, ...], ...] = ()

    def run_of(self, module: str) -> tuple[str, ...]:
        """The blocks whose parameters a block's module holds: itself, and those stacked with it."""
        return next((run for run in self.runs if run[0] == module), (module,))

    def stack(self, params: Mapping[str, Mapping[str, Any]]) -> hk.Params:
        """Stacks parameters, or a tree like them; NumPy arrays give NumPy arrays."""
        stacked_blocks = {block for run in self.runs for block in run}
        stacked: dict[str, Any] = {}
        for module, names in params.items():
            modules = self._modules(module)
            if modules != (module,):
                stacked[module] = jax.tree.map(_stack, *(params[each] for each in modules))
            elif _block(module) not in stacked_blocks:
                stacked[module] = names
        return stacked

    def unstack(self, params: hk.Params) -> hk.Params:
        """Undoes `stack`; of NumPy arrays it gives views."""
        unstacked: dict[str, Any] = {}
        for module, names in params.items():
            modules = self._modules(module)
            for index, each in enumerate(modules):
                unstacked[each] = (
                    names if len(modules) == 1 else {name: x[index, ...] for name, x in names.items()}
                )
        return unstacked

    def is_stacked(self, name: str) -> bool:
        """Whether the parameter of a name, in stacked parameters, has an axis of blocks in front."""
        return len(self._modules(name)) > 1

    def names(self, params: hk.Params) -> list[str]:
        """'module/name' of every parameter, each block's its own, in the order of stacked leaves."""
        return [
            each for path, _ in jax.tree.leaves_with_path(params) for each in self._modules(name_at(path))
        ]

    def _modules(self, name: str) -> tuple[str, ...]:
        """The names in all blocks that a stacked module, or a parameter of it, stands for."""
        block = _block(name)
        if block is None:
            return (name,)
        return tuple(each + name.removeprefix(block) for each in self.run_of(block))


UNSTACKED = ParamLayout()


def stack_alike(
    shapes: Mapping[str, Mapping[str, Any]],
    depths: Sequence[int],
    properties: Sequence[Callable[[str], Any]] = (),
) -> ParamLayout:
    """Stacks neighboring blocks of a stage whose parameters are alike; a stage's first block never is.

    Args:
      shapes: {module: {name: array or shape}} of all parameters, unstacked.
      depths: blocks of each stage.
      properties: of a parameter's name; blocks that differ in one are not stacked.
    """
    modules: dict[int, str] = {}
    parts: dict[int, list[Any]] = {}
    for path, x in sorted((name_at(path), x) for path, x in jax.tree.leaves_with_path(dict(shapes))):
        block = split_block(path)
        if block:
            index, modules[block[0]], inside = block
            parts.setdefault(index, []).append((inside, x.shape, *(of(path) for of in properties)))
    runs = []
    for end, depth in zip(itertools.accumulate(depths), depths, strict=True):
        for _, alike in itertools.groupby(range(end - depth + 1, end), parts.__getitem__):
            runs.append(tuple(modules[index] for index in alike))
    return ParamLayout(tuple(run for run in runs if len(run) > 1))


def _block(name: str) -> str | None:
    found = split_block(name)
    return found[1] if found else None


def _stack(*arrays: Any) -> Any:
    return (np if isinstance(arrays[0], np.ndarray) else jnp).stack(arrays)
