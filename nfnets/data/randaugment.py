"""RandAugment on the accelerator (Cubuk et al. 2020, arXiv 1909.13719), each operation on its own part."""

import jax
import jax.numpy as jnp

from nfnets.data.operations import OPERATIONS, Draws


def randaugment(key: jax.Array, images: jax.Array, *, layers: int, magnitude: int) -> jax.Array:
    """Applies operations drawn at random, uniformly and with replacement, one after the other.

    Each layer deals the images out at random to slots, of which each operation has as many, so that every
    operation runs on its own part alone. Every image's operation is uniform; within one layer those of
    different images are as different as they can be.

    Args:
      key: random.
      images: uint8 [N, H, W, 3].
      layers: operations on each image.
      magnitude: 0..30.

    Returns:
      uint8 [N, H, W, 3].
    """
    for layer_key in jax.random.split(key, layers):
        slot_key, draw_key = jax.random.split(layer_key)
        slots = deal(slot_key, images.shape[0])
        images = apply_layer(images, slots, sample_draws(draw_key, images.shape), magnitude)
    return images


def deal(key: jax.Array, count: int) -> jax.Array:
    """A slot for each of N images, no two the same, out of 16 * ceil(N / 16); int32 [N]."""
    return jax.random.permutation(key, _num_slots(count))[:count]


def _num_slots(count: int) -> int:
    return len(OPERATIONS) * -(-count // len(OPERATIONS))


def sample_draws(key: jax.Array, shape: tuple[int, ...]) -> Draws:
    """Random draws for images of a shape [N, H, W, 3]."""
    sign_key, row_key, column_key = jax.random.split(key, 3)
    count, height, width = shape[:3]
    return Draws(
        sign=jax.random.rademacher(sign_key, (count,), jnp.float32),
        row=jax.random.randint(row_key, (count,), 0, height),
        column=jax.random.randint(column_key, (count,), 0, width),
    )


def apply_layer(images: jax.Array, slots: jax.Array, draws: Draws, magnitude: int) -> jax.Array:
    """One operation on each image: number slot // (slots an operation).

    Args:
      images: uint8 [N, H, W, 3].
      slots: int32 [N], from `deal`.
      draws: of each image.
      magnitude: 0..30.

    Returns:
      uint8 [N, H, W, 3].
    """
    num_slots = _num_slots(images.shape[0])
    share = num_slots // len(OPERATIONS)
    # Which image sits in each slot; the empty ones compute on the first and are not looked at.
    seated = jnp.zeros(num_slots, jnp.int32).at[slots].set(jnp.arange(images.shape[0]))
    dealt = images[seated].reshape(len(OPERATIONS), share, *images.shape[1:])
    dealt_draws = [x[seated].reshape(len(OPERATIONS), share) for x in draws]
    done = [
        make(magnitude)(dealt[k], Draws(*(x[k] for x in dealt_draws)))
        for k, make in enumerate(OPERATIONS.values())
    ]
    return jnp.concatenate(done)[slots]
