"""RoIAlign as two products with interpolation weights: no gather, which TPUs are slow at.

References:
  [H] He et al. 2017, arXiv 1703.06870 (section 3).
  [L] Lin et al. 2017, arXiv 1612.03144 (section 4.2, equation 1).
"""

from collections.abc import Mapping

import jax
import jax.numpy as jnp

from nfnets.detection.boxes import area
from nfnets.detection.interpolation import interpolation_weights, points_along, take

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
      grids: {level: [H / 2^level, W / 2^level, C]}, of one image, finest first.
      boxes: [R, 4], px, inside of the image.
      size: bins in each direction.

    Returns:
      [R, size, size, C], in the grids' dtype.
    """
    sheet, corners = side_by_side(grids)
    of_levels = jnp.asarray([[2.0**-k, *grid.shape[:2], *corners[k]] for k, grid in grids.items()])
    of_boxes = take(of_levels, box_levels(boxes, tuple(grids)) - min(grids))
    scale, height, width, top, left = jnp.split(of_boxes, 5, axis=1)
    x, y = (points_along(boxes[:, k], boxes[:, k + 2], size * _SAMPLES) * scale for k in (0, 1))
    rows = _weights(y, height, top, sheet.shape[0]).astype(sheet.dtype)
    columns = _weights(x, width, left, sheet.shape[1]).astype(sheet.dtype)
    lines = jnp.einsum('rph,hwc->rpwc', rows, sheet)
    # A product for each line: as one for each box, XLA's TPU compiler copies the gradients of all lines.
    columns = jnp.broadcast_to(columns[:, None], (len(boxes), size, *columns.shape[1:]))
    return jnp.einsum('rpqw,rpwc->rpqc', columns, lines)


def side_by_side(grids: Mapping[int, jax.Array]) -> tuple[jax.Array, dict[int, tuple[int, int]]]:
    """A pyramid as one grid, so that boxes of all levels are pooled by one product.

    Args:
      grids: {level: [H / 2^level, W / 2^level, C]}, two or more, finest first.

    Returns:
      [3/2 H', W', C] of the finest grid's H' and W', and row and column that each level begins at: all but
      the finest lie below it, from left to right, and the rest is 0.
    """
    (finest, first), *coarser = grids.items()
    corners, left = {finest: (0, 0)}, 0
    for level, grid in coarser:
        corners[level], left = (len(first), left), left + grid.shape[1]
    height = len(coarser[0][1])
    below = [jnp.pad(grid, ((0, height - len(grid)), (0, 0), (0, 0))) for _, grid in coarser]
    strip = jnp.pad(jnp.concatenate(below, axis=1), ((0, 0), (0, first.shape[1] - left), (0, 0)))
    return jnp.concatenate([first, strip]), corners


def _weights(places: jax.Array, length: jax.Array, start: jax.Array, whole: int) -> jax.Array:
    """What each place along an axis of `side_by_side` gives to each bin.

    Args:
      places: of the samples along the axis of each box's level, [R, bins * _SAMPLES].
      length: of that level, in places, [R, 1].
      start: of that level, [R, 1].
      whole: places along the axis.

    Returns:
      float32 [R, bins, whole].
    """
    inside = (places - 0.5).clip(0.0, length - 1.0) + start
    of_samples = interpolation_weights(inside + 0.5, whole)
    return jnp.mean(of_samples.reshape(len(places), -1, _SAMPLES, whole), axis=2)
