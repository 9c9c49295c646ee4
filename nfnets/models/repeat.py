"""Runs blocks one after another: stacked ones compiled once, and recomputed backwards if asked."""

import contextlib
import itertools
from collections.abc import Callable, Sequence
from typing import Any

import haiku as hk
import jax
import jax.numpy as jnp

from nfnets.models.convolution import CONVOLVED


def run_blocks(
    blocks: Sequence[hk.Module],
    settings: Sequence[Any],
    call: Callable[[Any, jax.Array, Any], jax.Array],
    x: jax.Array,
    *,
    remat: bool,
) -> jax.Array:
    """Applies modules one after another; inside `hk.transform`.

    Where the parameters of several are stacked (`nfnets/models/stacks.py`), one body is compiled for all of
    them, in a time that does not grow with their number, and for the backward pass no more is kept of them
    than what their convolutions give.

    Args:
      blocks: none or more; those that are stacked give an array like the one they take.
      settings: what else distinguishes a block: trees of numbers, of one structure for stacked ones.
      call: (block, x, setting) to the output of a block.
      x: what the first takes.
      remat: whether nothing of a block but its input is kept for the backward pass. XLA's CPU backend
        undoes that unless blocks are stacked.

    Returns:
      What the last gives.
    """
    if hk.running_init():
        for block, setting in zip(blocks, settings, strict=True):
            x = call(block, x, setting)
        return x
    modules = hk.get_params().keys()
    # The first has its own, whatever is missing: Haiku then tells what.
    starts = [i for i, block in enumerate(blocks) if i == 0 or any(_is_of(block, m) for m in modules)]
    for start, end in itertools.pairwise([*starts, len(blocks)]):
        # Each has its own random key, so that what it draws does not depend on how it is run.
        each = [(hk.maybe_next_rng_key(), setting) for setting in settings[start:end]]
        if remat or len(each) > 1:
            x = _run_pure(blocks[start], each, call, x, remat)
        else:
            [(key, setting)] = each
            with hk.with_rng(key) if key is not None else contextlib.nullcontext():
                x = call(blocks[start], x, setting)
    return x


def _run_pure(
    first: hk.Module,
    each: Sequence[tuple[jax.Array | None, Any]],  # Key and setting of every block.
    call: Callable[[Any, jax.Array, Any], jax.Array],
    x: jax.Array,
    remat: bool,
) -> jax.Array:
    params = {module: names for module, names in hk.get_params().items() if _is_of(first, module)}
    apply = hk.transform(lambda x, setting: call(first, x, setting)).apply
    if len(each) == 1:
        [(key, setting)] = each
        return jax.checkpoint(apply)(params, key, x, setting)
    # A loop keeps all that differentiation asks for: five arrays for each GELU, and the standardised weights.
    # That is too much to write and to hold, and quickly computed again from what the convolutions gave.
    kept = None if remat else jax.checkpoint_policies.save_only_these_names(CONVOLVED)
    apply = jax.checkpoint(apply, prevent_cse=False, policy=kept)

    def body(x: jax.Array, one: Any) -> tuple[jax.Array, None]:
        params, (key, setting) = one
        return apply(params, key, x, setting), None

    return jax.lax.scan(body, x, (params, jax.tree.map(lambda *leaves: jnp.stack(leaves), *each)))[0]


def _is_of(block: hk.Module, module: str) -> bool:
    return module == block.module_name or module.startswith(block.module_name + '/')
