"""The stages of a residual network: where each block stands, and what follows from that.

The variance analysis is that of Brock et al. 2021 (arXiv 2101.08692, section 3).
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import haiku as hk
import jax

from nfnets.models.param_layout import UNSTACKED, ParamLayout
from nfnets.models.scan import run_blocks

ALPHA = 0.2  # Scale of each residual branch, so the growth of variance with depth.


class BlockSetting(NamedTuple):
    """Settings of a block that follow from its place in the network.

    Attributes:
      beta: standard deviation expected of the input.
      drop_rate: probability of dropping an example's branch in training; None for never.
    """

    beta: float | jax.Array
    drop_rate: float | jax.Array | None


Stage = list[tuple[Any, BlockSetting]]  # Blocks, called as `run_stages` does.


class Place(NamedTuple):
    """A block's place in its network.

    Attributes:
      channels: of the output.
      inputs: channels of the input; None for the first block, whose input is the stem's output.
      stride: of the block.
      is_transition: first block of a stage, whose shortcut is a convolution.
      setting: what distinguishes it from the blocks that are alike.
    """

    channels: int
    inputs: int | None
    stride: int
    is_transition: bool
    setting: BlockSetting


def lay_out(
    widths: Sequence[int],
    depths: Sequence[int],
    *,
    first_stride: int = 1,
    stochastic_depth_rate: float = 0.0,
    alpha: float = ALPHA,
) -> list[list[Place]]:
    """The places of all blocks, by stage.

    Args:
      widths: output channels of each stage.
      depths: blocks of each stage.
      first_stride: of the first stage; the others have 2.
      stochastic_depth_rate: drop rate that would follow the last block; it grows linearly with depth, from 0
        at the first.
      alpha: scale of each branch of variance 1.
    """
    stages: list[list[Place]] = []
    inputs: int | None = None
    num_blocks, index, variance = sum(depths), 0, 1.0
    for width, depth in zip(widths, depths, strict=True):
        stage: list[Place] = []
        stride = 2 if stages else first_stride
        for number in range(depth):
            drop_rate = stochastic_depth_rate * index / num_blocks
            setting = BlockSetting(variance**0.5, drop_rate or None)
            stage.append(Place(width, inputs, stride if number == 0 else 1, number == 0, setting))
            inputs = width
            index += 1
            # A transition's shortcut is itself a convolution of a normalized input, so the variance starts
            # from 1 again; each branch adds alpha^2.
            variance = (1.0 if number == 0 else variance) + alpha**2
        stages.append(stage)
    return stages


def make_stages(places: list[list[Place]], make_block: Callable[[Place], hk.Module]) -> list[Stage]:
    """The blocks of all places, each with its setting; no method, whose name would be in the parameters'."""
    return [[(make_block(place), place.setting) for place in stage] for stage in places]


def run_stages(
    stages: Sequence[Stage],
    x: jax.Array,
    is_training: bool,
    *,
    layout: ParamLayout = UNSTACKED,
    remat: bool = False,
) -> tuple[jax.Array, ...]:
    """Applies the blocks of all stages in turn.

    Args:
      stages: from `make_stages`; a block takes (x, setting, is_training).
      x: [N, H, W, C].
      is_training: as the blocks take it.
      layout: of the network's parameters.
      remat: rematerialize each block in the backward pass instead of keeping what is in it.

    Returns:
      The grid of each stage [N, H', W', C]: what its last block gives and the next stage takes. Blocks that
      begin with their activation have not applied it; the stride doubles from each stage to the next.
    """
    grids = []
    for stage in stages:
        x = run_blocks(
            [block for block, _ in stage],
            [setting for _, setting in stage],
            lambda block, x, setting: block(x, setting, is_training),
            x,
            layout=layout,
            remat=remat and is_training,
        )
        grids.append(x)
    return tuple(grids)
