"""Linear interpolation as products: what each place along an axis gives to each point between places."""

import jax
import jax.numpy as jnp


def interpolation_weights(px: jax.Array, length: int, stride: float | jax.Array = 1.0) -> jax.Array:
    """Weights by which points along an axis are sums of the places there.

    Place i stands for the middle of its stretch; beyond the outermost middles their values hold.

    Args:
      px: points, [..., P].
      length: places.
      stride: px of each place.

    Returns:
      float32 [..., P, length]; those of a point add up to 1.
    """
    places = jnp.clip(px / stride - 0.5, 0.0, length - 1.0)
    middles = jnp.arange(length, dtype=jnp.float32).reshape((1,) * px.ndim + (length,))
    return jnp.maximum(0.0, 1.0 - jnp.abs(places[..., None] - middles))


def points_along(start: jax.Array, stop: jax.Array, count: int) -> jax.Array:
    """The middles of so many equal parts of stretches: [R], [R] in px -> [R, count]."""
    steps = (jnp.arange(count) + 0.5) / count
    return start[:, None] + steps[None, :] * (stop - start)[:, None]
