"""Runs blocks one after another: compiled once for all that are alike, and recomputed backwards if asked."""

from collections.abc import Callable, Sequence
from typing import Any

import haiku as hk
import jax
import jax.numpy as jnp


def run_blocks(
    blocks: Sequence[hk.Module],
    settings: Sequence[Any],
    call: Callable[[Any, jax.Array, Any], jax.Array],
    x: jax.Array,
    *,
    scan: bool,
    remat: bool,
) -> jax.Array:
    """Applies modules of one structure in turn; inside `hk.transform`.

    Names and shapes of parameters are the same whatever is chosen.

    Args:
      blocks: none or more, alike but for their names; with `scan` each gives an array like the one it takes.
      settings: what else distinguishes a block: trees of numbers of one structure.
      call: (block, x, setting) to the output of a block.
      x: what the first takes.
      scan: whether one body is compiled for all, in a time that does not grow with their number; their
        parameters are stacked for that, which is a copy.
      remat: whether nothing of a block but its input is kept for the backward pass. XLA's CPU backend
        undoes that unless blocks are scanned.

    Returns:
      What the last gives.
    """
    if hk.running_init() or not blocks or not (scan or remat):
        for block, setting in zip(blocks, settings, strict=True):
            x = call(block, x, setting)
        return x
    apply = hk.transform(lambda x, setting: call(blocks[0], x, setting)).apply
    apply = jax.checkpoint(apply) if remat else apply
    each = [
        (_params_as_of(block, blocks[0]), hk.maybe_next_rng_key(), setting)
        for block, setting in zip(blocks, settings, strict=True)
    ]
    if not scan or len(blocks) == 1:
        for params, key, setting in each:
            x = apply(params, key, x, setting)
        return x
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *each)
    return jax.lax.scan(lambda x, one: (apply(one[0], one[1], x, one[2]), None), x, stacked)[0]


def _params_as_of(block: hk.Module, other: hk.Module) -> hk.Params:
    """The parameters of one block, by the names of another's."""
    own, length = block.module_name, len(block.module_name)
    return {
        other.module_name + module[length:]: params
        for module, params in hk.get_params().items()
        if module == own or module.startswith(own + '/')
    }
