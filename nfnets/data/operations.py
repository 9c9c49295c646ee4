"""The sixteen operations of RandAugment on the accelerator, as in the code released with NFNets.

Magnitudes: Brock et al. 2021, arXiv 2102.06171, appendix A. Images are pixels int32 [N, H, W] throughout
(`pixels.py`). What is odd here was odd when the published networks were trained:
  - Solarize's threshold is a uint8 and wraps: 0, a full inversion, at magnitude 10; at 15 the same as at 5.
  - At magnitude 5 Color, Contrast, Brightness and Sharpness have the factor 1 and do nothing.
  - Posterize keeps more bits, so changes less, at a higher magnitude.
  - Contrast's mean is not that of the image but its number of pixels / 256, at most 255.
  - Translate and Cutout are in pixels, whatever the size of the image.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from nfnets.data.levels import count_levels, look_up
from nfnets.data.pixels import gray, join, map_channels, split
from nfnets.data.warp import warp

_FILL = gray(128)  # In place of what a shift or a rotation brings in from outside.
_LUMA = (0.2989, 0.587, 0.114)


class Draws(NamedTuple):
    """Random draws for each image.

    Attributes:
      sign: float32 [N], 1 or -1, for the operations that have two directions.
      row: int32 [N], of Cutout's center.
      column: int32 [N], likewise.
    """

    sign: jax.Array
    row: jax.Array
    column: jax.Array


Operation = Callable[[jax.Array, Draws], jax.Array]


def _of_pixels(fn: Callable[[jax.Array], jax.Array]) -> Operation:
    return lambda pixels, draws: fn(pixels)


def _of_levels(fn: Callable[[jax.Array], jax.Array]) -> Operation:
    return lambda pixels, draws: map_channels(fn, pixels)


# ---- Every level of a channel is replaced by another.


def _invert(magnitude: int) -> Operation:
    del magnitude
    return _of_pixels(lambda pixels: pixels ^ gray(255))


def _posterize(magnitude: int) -> Operation:
    dropped = max(0, 8 - int(0.4 * magnitude))
    return _of_pixels(lambda pixels: pixels & gray(255 >> dropped << dropped))


def _solarize(magnitude: int) -> Operation:
    threshold = int(25.6 * magnitude) % 256  # Wraps.
    return _of_levels(lambda level: jnp.where(level < threshold, level, 255 - level))


def _solarize_add(magnitude: int) -> Operation:
    added = int(11 * magnitude)
    return _of_levels(lambda level: jnp.where(level < 128, jnp.minimum(level + added, 255), level))


def _auto_contrast(magnitude: int) -> Operation:
    del magnitude

    def stretch(level: jax.Array) -> jax.Array:
        low = jnp.min(level, axis=(1, 2), keepdims=True).astype(jnp.float32)
        high = jnp.max(level, axis=(1, 2), keepdims=True).astype(jnp.float32)
        scale = 255.0 / jnp.maximum(high - low, 1.0)
        return jnp.where(high > low, _round_down(level.astype(jnp.float32) * scale - low * scale), level)

    return _of_levels(stretch)


def _equalize(magnitude: int) -> Operation:
    del magnitude

    def apply(pixels: jax.Array, draws: Draws) -> jax.Array:
        del draws
        levels = jnp.stack(split(pixels), axis=1)
        levels = levels.reshape(*levels.shape[:2], -1)
        levels = look_up(levels, equalizing_tables(count_levels(levels)))
        channels = levels.reshape(pixels.shape[0], 3, *pixels.shape[1:])
        return join(channels[:, 0], channels[:, 1], channels[:, 2])

    return apply


def equalizing_tables(histograms: jax.Array) -> jax.Array:
    """Tables that spread levels evenly: int32 [..., 256] -> int32 [..., 256]."""
    levels = jnp.arange(256).reshape((1,) * (histograms.ndim - 1) + (256,))
    highest = jnp.max(jnp.where(histograms > 0, levels, 0), axis=-1, keepdims=True)
    last = jnp.sum(jnp.where(levels == highest, histograms, 0), axis=-1, keepdims=True)
    step = (jnp.sum(histograms, axis=-1, keepdims=True) - last) // 255
    below = jnp.cumsum(histograms, axis=-1) - histograms
    table = jnp.clip((below + step // 2) // jnp.maximum(step, 1), 0, 255)
    # The released table is shifted by one place: its first entry is 0, not half a step's part.
    table = jnp.where(levels == 0, 0, table)
    return jnp.where(step == 0, levels, table)


# ---- Blends of an image with a degenerate of it.


def _round_down(level: jax.Array) -> jax.Array:
    return jnp.clip(level, 0.0, 255.0).astype(jnp.int32)


def _blend(start: jax.Array | float, level: jax.Array, factor: float) -> jax.Array:
    """Levels int32 from levels float32, beyond or between the two."""
    return _round_down(start + factor * (level.astype(jnp.float32) - start))


def _factor(magnitude: int) -> float:
    return 0.18 * magnitude + 0.1


def _blends(degenerate: Callable[[jax.Array], jax.Array | float], magnitude: int) -> Operation:
    """Blends each channel with a degenerate of it, [N, H, W] -> float32."""
    factor = _factor(magnitude)
    if factor == 1.0:
        return _of_pixels(lambda pixels: pixels)
    return _of_levels(lambda level: _blend(degenerate(level), level, factor))


def _grayscale(pixels: jax.Array) -> jax.Array:
    red, green, blue = (level.astype(jnp.float32) * (1 / 255) for level in split(pixels))
    # Not a sum over an axis: with that, XLA on CPU (jax 0.10.2) does not round down below.
    luma = _LUMA[0] * red + _LUMA[1] * green + _LUMA[2] * blue
    # TensorFlow's way from 0..1 back to levels, rounded down.
    return (luma * 255.5).astype(jnp.int32).astype(jnp.float32)


def _color(magnitude: int) -> Operation:
    def apply(pixels: jax.Array, draws: Draws) -> jax.Array:
        return _blends(lambda level: _grayscale(pixels), magnitude)(pixels, draws)

    return apply


def _contrast(magnitude: int) -> Operation:
    # The mean of the histogram's entries, not of the image.
    return _blends(lambda level: float(int(min(255.0, level.shape[1] * level.shape[2] / 256))), magnitude)


def _brightness(magnitude: int) -> Operation:
    return _blends(lambda level: 0.0, magnitude)


def _sharpness(magnitude: int) -> Operation:
    def smooth(level: jax.Array) -> jax.Array:
        x = level.astype(jnp.float32)
        height, width = x.shape[1:]
        weight = np.full((3, 3), 1 / 13, np.float32)
        weight[1, 1] = 5 / 13
        shifted = [
            x[:, i : height - 2 + i, j : width - 2 + j] * weight[i, j] for i in range(3) for j in range(3)
        ]
        inner = _round_down(sum(shifted, start=jnp.zeros((), jnp.float32)))
        # The border has no neighbors on one side and stays.
        return jax.lax.dynamic_update_slice(x, inner.astype(jnp.float32), (0, 1, 1))

    return _blends(smooth, magnitude)


# ---- Geometry: nearest neighbors, gray from outside.


def _two_ways(matrix: Callable[[float], Sequence[Sequence[Any]]]) -> Operation:
    """Warps by a matrix [2, 3] that depends on the sign of the draw."""

    def apply(pixels: jax.Array, draws: Draws) -> jax.Array:
        maps = np.asarray([matrix(1.0), matrix(-1.0)], np.float32)
        return warp(pixels, (draws.sign < 0).astype(jnp.int32), maps, _FILL)

    return apply


def _rotate(magnitude: int) -> Operation:
    def apply(pixels: jax.Array, draws: Draws) -> jax.Array:
        right, down = (np.float32(length - 1) for length in (pixels.shape[2], pixels.shape[1]))

        def matrix(sign: float) -> Sequence[Sequence[Any]]:
            # Not the functions of float32, whose last bit depends on the processor.
            angle = float(np.float32(sign * 3 * magnitude * (np.pi / 180)))
            cos, sin = np.float32(np.cos(angle)), np.float32(np.sin(angle))
            shift_x = (right - (cos * right - sin * down)) / np.float32(2)
            shift_y = (down - (sin * right + cos * down)) / np.float32(2)
            return (cos, -sin, shift_x), (sin, cos, shift_y)

        return _two_ways(matrix)(pixels, draws)

    return apply


def _shear_x(magnitude: int) -> Operation:
    return _two_ways(lambda sign: ((1, sign * 0.03 * magnitude, 0), (0, 1, 0)))


def _shear_y(magnitude: int) -> Operation:
    return _two_ways(lambda sign: ((1, 0, 0), (sign * 0.03 * magnitude, 1, 0)))


def _translate(axis: int, magnitude: int) -> Operation:
    by = 10 * magnitude

    def apply(pixels: jax.Array, draws: Draws) -> jax.Array:
        padding = [(0, 0, 0)] * 3

        def shifted(by: int) -> jax.Array:
            padding[axis] = (-by, by, 0)
            return jax.lax.pad(pixels, jnp.asarray(_FILL, pixels.dtype), padding)

        return jnp.where(draws.sign[:, None, None] > 0, shifted(by), shifted(-by))

    return apply


def _cutout(magnitude: int) -> Operation:
    def apply(pixels: jax.Array, draws: Draws) -> jax.Array:
        half = int(4 * magnitude)

        def near(center: jax.Array, length: int) -> jax.Array:
            offset = jnp.arange(length)[None, :] - center[:, None]
            return (offset >= -half) & (offset < half)

        rows, columns = near(draws.row, pixels.shape[1]), near(draws.column, pixels.shape[2])
        return jnp.where(rows[:, :, None] & columns[:, None, :], _FILL, pixels)

    return apply


OPERATIONS: dict[str, Callable[[int], Operation]] = {
    'AutoContrast': _auto_contrast,
    'Equalize': _equalize,
    'Invert': _invert,
    'Rotate': _rotate,
    'Posterize': _posterize,
    'Solarize': _solarize,
    'SolarizeAdd': _solarize_add,
    'Color': _color,
    'Contrast': _contrast,
    'Brightness': _brightness,
    'Sharpness': _sharpness,
    'ShearX': _shear_x,
    'ShearY': _shear_y,
    'TranslateX': functools.partial(_translate, 2),
    'TranslateY': functools.partial(_translate, 1),
    'Cutout': _cutout,
}
