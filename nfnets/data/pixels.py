"""Pixels of three channels in one integer: red, green and blue in bits 0..7, 8..15 and 16..23.

RandAugment works on these. No axis is as short as the channels', which a TPU would pad to 128, and what moves
a pixel moves one number.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

_ALL = 0x010101  # A level times this is the gray pixel of that level.


def pack(images: jax.Array) -> jax.Array:
    """[N, H, W, 3] of levels 0..255, of any type, to pixels int32 [N, H, W]."""
    images = images.astype(jnp.int32)
    return join(images[..., 0], images[..., 1], images[..., 2])


def unpack(pixels: jax.Array) -> jax.Array:
    """Pixels int32 [N, H, W] to uint8 [N, H, W, 3]."""
    return jnp.stack(split(pixels), axis=-1).astype(jnp.uint8)


def split(pixels: jax.Array) -> list[jax.Array]:
    """Levels of the three channels, int32 as the pixels."""
    return [(pixels >> shift) & 255 for shift in (0, 8, 16)]


def join(red: jax.Array, green: jax.Array, blue: jax.Array) -> jax.Array:
    """Pixels int32 of the levels of three channels, int32 0..255."""
    return red | green << 8 | blue << 16


def gray(level: int) -> int:
    """The pixel whose channels all have this level, 0..255."""
    return level * _ALL


def map_channels(fn: Callable[[jax.Array], jax.Array], pixels: jax.Array) -> jax.Array:
    """Applies a function of levels int32 [N, H, W] to each channel of pixels int32 [N, H, W]."""
    return join(*map(fn, split(pixels)))
