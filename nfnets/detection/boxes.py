"""Boxes, float32 [..., 4]: left, top, right, bottom edge in px, from the image's upper left corner.

References:
  [R] Ren et al. 2015, arXiv 1506.01497 (Faster R-CNN, section 3.1.2).
"""

import math

import jax
import jax.numpy as jnp

# Largest log of a ratio of sizes that is decoded, so that an untrained network gives finite boxes; the value
# is that of Detectron.
_MOST = math.log(1000.0 / 16.0)


def area(boxes: jax.Array) -> jax.Array:
    """Area of boxes, px²: [..., 4] -> [...]."""
    return (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])


def intersection(a: jax.Array, b: jax.Array) -> jax.Array:
    """Area that two boxes share, px², each with each: [N, 4], [M, 4] -> [N, M]."""
    width, height = (
        jnp.minimum(a[:, None, axis + 2], b[None, :, axis + 2])
        - jnp.maximum(a[:, None, axis], b[None, :, axis])
        for axis in (0, 1)
    )
    return jnp.maximum(width, 0.0) * jnp.maximum(height, 0.0)


def iou(a: jax.Array, b: jax.Array) -> jax.Array:
    """Intersection over union, each with each: [N, 4], [M, 4] -> [N, M]; 0 where the union is empty."""
    shared = intersection(a, b)
    union = area(a)[:, None] + area(b)[None, :] - shared
    return jnp.where(union > 0, shared / jnp.where(union > 0, union, 1.0), 0.0)


def covered(a: jax.Array, b: jax.Array) -> jax.Array:
    """The fraction of each of a [N, 4] that each of b [M, 4] covers, [N, M]: an overlap with crowds."""
    whole = area(a)[:, None]
    return jnp.where(whole > 0, intersection(a, b) / jnp.where(whole > 0, whole, 1.0), 0.0)


def _centers_and_sizes(boxes: jax.Array) -> tuple[jax.Array, jax.Array]:
    sizes = boxes[..., 2:] - boxes[..., :2]
    return boxes[..., :2] + 0.5 * sizes, sizes


def encode(boxes: jax.Array, anchors: jax.Array) -> jax.Array:
    """Shifts of boxes from anchors (box regression deltas, [R] equation 2).

    Args:
      boxes: [..., 4], px, not empty.
      anchors: [..., 4], px, not empty.

    Returns:
      [..., 4]: x and y of the center in anchor sizes, and logs of the ratios of widths and of heights.
    """
    (centers, sizes), (anchor_centers, anchor_sizes) = map(_centers_and_sizes, (boxes, anchors))
    return jnp.concatenate(
        [(centers - anchor_centers) / anchor_sizes, jnp.log(sizes / anchor_sizes)], axis=-1
    )


def decode(shifts: jax.Array, anchors: jax.Array) -> jax.Array:
    """The inverse of `encode`: [..., 4], [..., 4] -> boxes [..., 4], up to 62.5 times the anchors' sizes."""
    centers, sizes = _centers_and_sizes(anchors)
    centers = centers + shifts[..., :2] * sizes
    halves = 0.5 * sizes * jnp.exp(jnp.minimum(shifts[..., 2:], _MOST))
    return jnp.concatenate([centers - halves, centers + halves], axis=-1)


def clip(boxes: jax.Array, sizes: jax.Array) -> jax.Array:
    """Cuts boxes [..., N, 4] off at the edges of images of sizes [..., 2]: height and width, px."""
    width, height = sizes[..., None, 1], sizes[..., None, 0]
    most = jnp.stack([width, height, width, height], axis=-1)
    return jnp.clip(boxes, 0.0, most)
