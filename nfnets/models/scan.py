"""Scan over layers: runs blocks one after another, stacked ones compiled once, rematerialized on request."""

import contextlib
from collections.abc import Callable, Sequence
from typing import Any

import haiku as hk
import jax
import jax.numpy as jnp

from nfnets.models.convolution import CONVOLVED
from nfnets.models.param_layout import ParamLayout
from nfnets.models.param_names import name_at

Call = Callable[[Any, jax.Array, Any], jax.Array]  # (block, x, setting) to the output of a block.


def run_blocks(
    blocks: Sequence[hk.Module],
    settings: Sequence[Any],
    call: Call,
    x: jax.Array,
    *,
    layout: ParamLayout,
    remat: bool,
) -> jax.Array:
    """Applies modules one after another; inside `hk.transform`.

    Stacked blocks are compiled as one body, in a time that does not grow with their number, and for the
    backward pass no more of them is kept than what their convolutions give.

    Args:
      blocks: none or more; those that are stacked give an array like the one they take.
      settings: what else distinguishes a block: trees of numbers, of one structure for stacked ones.
      call: (block, x, setting) to the output of a block.
      x: what the first takes.
      layout: of the parameters; initial ones are always unstacked.
      remat: whether nothing of a block but its input is kept for the backward pass. XLA's CPU backend
        undoes that unless blocks are stacked.

    Returns:
      What the last gives.
    """
    if hk.running_init():
        for block, setting in zip(blocks, settings, strict=True):
            x = call(block, x, setting)
        return x
    start = 0
    while start < len(blocks):
        count = len(layout.run_of(blocks[start].module_name))
        # Each has its own random key, so that what it draws does not depend on how it is run.
        each = [(hk.maybe_next_rng_key(), setting) for setting in settings[start : start + count]]
        block = blocks[start]
        if count > 1:
            x = _scan(block, each, call, x, remat)
        else:
            [(key, setting)] = each
            if remat:
                x = jax.checkpoint(_pure(block, call))(_params_of(block), key, x, setting)
            else:
                with hk.with_rng(key) if key is not None else contextlib.nullcontext():
                    x = call(block, x, setting)
        start += count
    return x


def _scan(
    block: hk.Module, each: Sequence[tuple[jax.Array | None, Any]], call: Call, x: jax.Array, remat: bool
) -> jax.Array:
    params = _params_of(block)
    for path, array in jax.tree.leaves_with_path(params):
        if array.shape[:1] != (len(each),):
            shape = f'{name_at(path)} has the shape {array.shape}'
            raise ValueError(f'{shape}, where the layout stacks {len(each)} blocks')
    # A loop keeps all that differentiation asks for: five arrays for each GELU, and the standardized weights.
    # That is too much to write and to hold, and quickly rematerialized from what the convolutions gave.
    kept = None if remat else jax.checkpoint_policies.save_only_these_names(CONVOLVED)
    apply = jax.checkpoint(_pure(block, call), prevent_cse=False, policy=kept)

    def body(x: jax.Array, one: Any) -> tuple[jax.Array, None]:
        params, (key, setting) = one
        return apply(params, key, x, setting), None

    return jax.lax.scan(body, x, (params, jax.tree.map(lambda *leaves: jnp.stack(leaves), *each)))[0]


def _pure(block: hk.Module, call: Call) -> Callable[..., jax.Array]:
    """A module of the enclosing transform as a function (params, key, x, setting)."""
    return hk.transform(lambda x, setting: call(block, x, setting)).apply


def _params_of(block: hk.Module) -> hk.Params:
    inside = block.module_name + '/'
    return {
        m: names for m, names in hk.get_params().items() if m == block.module_name or m.startswith(inside)
    }
