"""Gathers as products: linear interpolation between the places along an axis, and rows of a short table."""

from typing import TypeVar

import jax
import jax.numpy as jnp
import numpy as np

Array = TypeVar('Array', jax.Array, np.ndarray)


def interpolation_weights(px: Array, length: int, stride: float | jax.Array = 1.0) -> Array:
    """Weights by which points along an axis are sums of the places there, in NumPy for NumPy's arrays.

    Place i stands for the middle of its stretch; beyond the outermost middles their values hold.

    Args:
      px: points, [..., P].
      length: places.
      stride: px of each place.

    Returns:
      float32 [..., P, length]; those of a point add up to 1.
    """
    places = (px / stride - 0.5).clip(0.0, length - 1.0)
    middles = np.arange(length, dtype=np.float32).reshape((1,) * px.ndim + (length,))
    return (1.0 - abs(places[..., None] - middles)).clip(0.0)


def points_along(start: jax.Array, stop: jax.Array, count: int) -> jax.Array:
    """The middles of so many equal parts of stretches: [R], [R] in px -> [R, count]."""
    steps = (jnp.arange(count) + 0.5) / count
    return start[:, None] + steps[None, :] * (stop - start)[:, None]


def take(rows: jax.Array, indices: jax.Array) -> jax.Array:
    """Rows of a short table, as a product with one-hot vectors: exactly those, and no gather.

    Args:
      rows: float32 [G, C], finite.
      indices: int32 [...].

    Returns:
      [..., C].
    """
    chosen = jax.nn.one_hot(indices, len(rows), dtype=rows.dtype)
    return jnp.matmul(chosen, rows, precision='highest')
