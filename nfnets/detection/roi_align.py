"""RoIAlign as two products with interpolation weights: no gather, which TPUs are slow at.

References:
  [H] He et al. 2017, arXiv 1703.06870 (section 3).
  [L] Lin et al. 2017, arXiv 1612.03144 (section 4.2, equation 1).
"""

from collections.abc import Mapping

import jax
import jax.numpy as jnp

from nfnets.detection.boxes import area
from nfnets.detection.interpolation import interpolation_weights, points_along

_SAMPLES = 2  # In each direction in each bin, regularly spaced ([H] section 3).
_CANONICAL = 224.0, 4  # A box of so many px is pooled from that level.


def box_levels(boxes: jax.Array, levels: tuple[int, ...]) -> jax.Array:
    """The level that each box is pooled from ([L] equation 1), boxes [..., 4] -> int32 [...]."""
    side, level = _CANONICAL
    sides = jnp.sqrt(jnp.maximum(area(boxes), 1e-6))
    found = jnp.floor(level + jnp.log2(sides / side)).astype(jnp.int32)
    return jnp.clip(found, min(levels), max(levels))


def roi_align(grids: Mapping[int, jax.Array], boxes: jax.Array, size: int) -> jax.Array:
    """Pools what a pyramid has of each box into size x size bins ([H] section 3).

    A bin is the mean of 2 x 2 bilinear samples. Place i of a grid stands for the middle of its px; samples
    beyond the outermost middles are those of the middles.

    Args:
      grids: {level: [H / 2^level, W / 2^level, C]}, of one image.
      boxes: [R, 4], px, inside of the image.
      size: bins in each direction.

    Returns:
      [R, size, size, C], in the grids' dtype.
    """
    level_of_box = box_levels(boxes, tuple(grids))
    pooled = []
    for level, grid in grids.items():
        is_of_level = (level_of_box == level).astype(grid.dtype)
        rows, columns = (
            _weights(boxes[:, axis], boxes[:, axis + 2], 2**level, grid.shape[1 - axis], size)
            for axis in (1, 0)
        )
        rows = rows.astype(grid.dtype) * is_of_level[:, None, None]
        lines = jnp.einsum('rph,hwc->rpwc', rows, grid)
        pooled.append(jnp.einsum('rqw,rpwc->rpqc', columns.astype(grid.dtype), lines))
    return sum(pooled[1:], start=pooled[0])


def _weights(start: jax.Array, stop: jax.Array, stride: int, length: int, size: int) -> jax.Array:
    """What each place along an axis gives to each bin: [R], [R] in px -> float32 [R, size, length]."""
    of_samples = interpolation_weights(points_along(start, stop, size * _SAMPLES), length, stride)
    return jnp.mean(of_samples.reshape(len(start), size, _SAMPLES, length), axis=2)
