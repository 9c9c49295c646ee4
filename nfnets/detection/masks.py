"""Masks as they are trained on: the part of an object's mask that a region sees.

The host hands over each object's mask on a grid of M x M places across its box, whatever the box's size.
"""

import jax
import jax.numpy as jnp

from nfnets.detection.interpolation import interpolation_weights, points_along, take


def mask_targets(
    masks: jax.Array, boxes: jax.Array, regions: jax.Array, match: jax.Array, side: int
) -> jax.Array:
    """The masks of regions, 0 or 1, by bilinear interpolation, a half rounded up.

    Args:
      masks: float [G, M, M], of objects, across their boxes.
      boxes: [G, 4], of the objects, px.
      regions: [R, 4], px.
      match: int32 [R], the object of each region.
      side: S.

    Returns:
      float32 [R, S, S]; 0 outside of the object's box.
    """
    # A product instead of a gather of numbers: each region takes one whole mask.
    chosen = jax.nn.one_hot(match, len(masks))
    seen = jnp.einsum('rg,gij->rij', chosen, masks.astype(jnp.float32))
    of_region = take(boxes, match)
    rows, columns = (
        _weights(regions[:, a], regions[:, a + 2], of_region[:, a], of_region[:, a + 2], masks.shape[1], side)
        for a in (1, 0)
    )
    values = jnp.einsum('rsi,rij,rtj->rst', rows, seen, columns)
    return (values >= 0.5).astype(jnp.float32)


def _weights(
    start: jax.Array, stop: jax.Array, box_start: jax.Array, box_stop: jax.Array, length: int, side: int
) -> jax.Array:
    """What each of `length` places along a box gives to each of `side` along a region: [R, side, length]."""
    extent = jnp.maximum(box_stop - box_start, 1e-3)[:, None]
    fraction = (points_along(start, stop, side) - box_start[:, None]) / extent
    is_inside = (fraction >= 0) & (fraction <= 1)
    return interpolation_weights(fraction, length, 1 / length) * is_inside[:, :, None]
