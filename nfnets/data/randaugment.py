"""RandAugment on the accelerator (Cubuk et al. 2020, arXiv 1909.13719), each operation on its own part."""

import jax
import jax.numpy as jnp

from nfnets.data.operations import OPERATIONS, Draws


def randaugment(key: jax.Array, pixels: jax.Array, *, layers: int, magnitude: int) -> jax.Array:
    """Applies operations drawn at random, uniformly and with replacement, one after the other.

    Each layer deals the images out at random to slots, of which each operation has as many, so that every
    operation runs on its own part alone. Every image's operation is uniform; within one layer those of
    different images are as different as they can be.

    Args:
      key: random.
      pixels: int32 [N, H, W], of `pixels.pack`.
      layers: operations on each image.
      magnitude: 0..30.

    Returns:
      int32 [N, H, W].
    """

    def layer(pixels: jax.Array, layer_key: jax.Array) -> tuple[jax.Array, None]:
        slot_key, draw_key = jax.random.split(layer_key)
        slots = deal(slot_key, pixels.shape[0])
        return apply_layer(pixels, slots, sample_draws(draw_key, pixels.shape), magnitude), None

    # A loop, as the sixteen operations are much to compile.
    return jax.lax.scan(layer, pixels, jax.random.split(key, layers))[0]


def deal(key: jax.Array, count: int) -> jax.Array:
    """A slot for each of N images, no two the same, out of 16 * ceil(N / 16); int32 [N]."""
    return jax.random.permutation(key, _num_slots(count))[:count]


def _num_slots(count: int) -> int:
    return len(OPERATIONS) * -(-count // len(OPERATIONS))


def sample_draws(key: jax.Array, shape: tuple[int, ...]) -> Draws:
    """Random draws for images of a shape [N, H, W]."""
    sign_key, row_key, column_key = jax.random.split(key, 3)
    count, height, width = shape
    return Draws(
        sign=jax.random.rademacher(sign_key, (count,), jnp.float32),
        row=jax.random.randint(row_key, (count,), 0, height),
        column=jax.random.randint(column_key, (count,), 0, width),
    )


def apply_layer(pixels: jax.Array, slots: jax.Array, draws: Draws, magnitude: int) -> jax.Array:
    """One operation on each image: number slot // (slots an operation).

    Args:
      pixels: int32 [N, H, W], of `pixels.pack`.
      slots: int32 [N], from `deal`.
      draws: of each image.
      magnitude: 0..30.

    Returns:
      int32 [N, H, W].
    """
    num_slots = _num_slots(pixels.shape[0])
    share = num_slots // len(OPERATIONS)
    # Which image sits in each slot; the empty ones compute on the first and are not looked at.
    is_seated = slots[None, :] == jnp.arange(num_slots, dtype=slots.dtype)[:, None]
    dealt = pixels[jnp.argmax(is_seated, axis=1)].reshape(len(OPERATIONS), share, *pixels.shape[1:])
    # Not a gather, which TPUs are slow at where it is of single numbers.
    dealt_draws = [jnp.sum(jnp.where(is_seated, x, 0), axis=1).reshape(len(OPERATIONS), share) for x in draws]
    done = []
    for k, (name, make) in enumerate(OPERATIONS.items()):
        with jax.named_scope(name):
            done.append(make(magnitude)(dealt[k], Draws(*(x[k] for x in dealt_draws))))
    return jnp.concatenate(done)[slots]
