"""The sixteen operations of RandAugment on the accelerator, as in the code released with NFNets.

Magnitudes: Brock et al. 2021, arXiv 2102.06171, appendix A. Images are uint8 [N, H, W, 3] throughout. What is
odd here was odd when the published networks were trained:
  - Solarize's threshold is a uint8 and wraps: 0, a full inversion, at magnitude 10; at 15 the same as at 5.
  - At magnitude 5 Color, Contrast, Brightness and Sharpness have the factor 1 and do nothing.
  - Posterize keeps more bits, so changes less, at a higher magnitude.
  - Contrast's mean is not that of the image but its number of pixels / 256, at most 255.
  - Translate and Cutout are in pixels, whatever the size of the image.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

_FILL = 128  # Gray in place of what a shift or a rotation brings in from outside.
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


# ---- Tables: every level of a channel is replaced by another.


def _look_up(images: jax.Array, table: jax.Array) -> jax.Array:
    """Replaces levels: uint8 [N, H, W, 3] by a table [256] or by tables [N, 3, 256]."""
    if table.ndim == 1:
        return table.astype(jnp.uint8)[images.astype(jnp.int32)]
    count, _, _, channels = images.shape
    offset = (jnp.arange(count)[:, None] * channels + jnp.arange(channels)[None, :]) * 256
    index = images.astype(jnp.int32) + offset[:, None, None, :]
    return table.astype(jnp.uint8).reshape(-1)[index]


def _fixed_table(table: np.ndarray) -> Operation:
    # NumPy: the table is a constant of the compiled program.
    return lambda images, draws: _look_up(images, jnp.asarray(table.astype(np.uint8)))


_LEVELS = np.arange(256)


def _invert(magnitude: int) -> Operation:
    del magnitude
    return _fixed_table(255 - _LEVELS)


def _posterize(magnitude: int) -> Operation:
    dropped = max(0, 8 - int(0.4 * magnitude))
    return _fixed_table(_LEVELS >> dropped << dropped)


def _solarize(magnitude: int) -> Operation:
    threshold = int(25.6 * magnitude) % 256  # Wraps.
    return _fixed_table(np.where(threshold > _LEVELS, _LEVELS, 255 - _LEVELS))


def _solarize_add(magnitude: int) -> Operation:
    brighter = np.minimum(_LEVELS + int(11 * magnitude), 255)
    return _fixed_table(np.where(_LEVELS < 128, brighter, _LEVELS))


def _auto_contrast(magnitude: int) -> Operation:
    del magnitude

    def apply(images: jax.Array, draws: Draws) -> jax.Array:
        del draws
        low = jnp.min(images, axis=(1, 2), keepdims=True).astype(jnp.float32)
        high = jnp.max(images, axis=(1, 2), keepdims=True).astype(jnp.float32)
        scale = 255.0 / jnp.maximum(high - low, 1.0)
        stretched = images.astype(jnp.float32) * scale - low * scale
        return jnp.where(high > low, _to_uint8(stretched), images)

    return apply


def _equalize(magnitude: int) -> Operation:
    del magnitude

    def apply(images: jax.Array, draws: Draws) -> jax.Array:
        del draws
        return _look_up(images, equalizing_tables(_histograms(images)))

    return apply


def _histograms(images: jax.Array) -> jax.Array:
    """Number of pixels of each level: uint8 [N, H, W, 3] -> int32 [N, 3, 256]."""
    count, _, _, channels = images.shape
    offset = (jnp.arange(count)[:, None] * channels + jnp.arange(channels)[None, :]) * 256
    index = images.astype(jnp.int32) + offset[:, None, None, :]
    histogram = jnp.zeros(count * channels * 256, jnp.int32).at[index.reshape(-1)].add(1)
    return histogram.reshape(count, channels, 256)


def equalizing_tables(histograms: jax.Array) -> jax.Array:
    """Tables that spread levels evenly: int32 [..., 256] -> int32 [..., 256]."""
    levels = jnp.arange(256)
    highest = jnp.max(jnp.where(histograms > 0, levels[(None,) * (histograms.ndim - 1)], 0), -1)
    last = jnp.take_along_axis(histograms, highest[..., None], axis=-1)[..., 0]
    step = ((jnp.sum(histograms, axis=-1) - last) // 255)[..., None]
    below = jnp.cumsum(histograms, axis=-1) - histograms
    table = (below + step // 2) // jnp.maximum(step, 1)
    # The released table is shifted by one place: its first entry is 0, not half a step's share.
    table = jnp.clip(table.at[..., 0].set(0), 0, 255)
    identity = jnp.broadcast_to(levels, table.shape)
    return jnp.where(step == 0, identity, table)


# ---- Blends of an image with a degenerate of it.


def _to_uint8(x: jax.Array) -> jax.Array:
    return jnp.clip(x, 0.0, 255.0).astype(jnp.uint8)  # Rounds down.


def _blend(degenerate: jax.Array, images: jax.Array, factor: float) -> jax.Array:
    if factor == 1.0:
        return images
    start = degenerate.astype(jnp.float32)
    return _to_uint8(start + factor * (images.astype(jnp.float32) - start))


def _factor(magnitude: int) -> float:
    return 0.18 * magnitude + 0.1


def _grayscale(images: jax.Array) -> jax.Array:
    x = images.astype(jnp.float32) * (1 / 255)
    # Not a sum over an axis: with that, XLA on CPU (jax 0.10.2) does not round down below.
    gray = _LUMA[0] * x[..., 0:1] + _LUMA[1] * x[..., 1:2] + _LUMA[2] * x[..., 2:3]
    # TensorFlow's way from 0..1 back to levels, rounded down.
    return jnp.broadcast_to((gray * 255.5).astype(jnp.uint8), images.shape)


def _color(magnitude: int) -> Operation:
    return lambda images, draws: _blend(_grayscale(images), images, _factor(magnitude))


def _contrast(magnitude: int) -> Operation:
    def apply(images: jax.Array, draws: Draws) -> jax.Array:
        del draws
        pixels = images.shape[1] * images.shape[2]
        mean = int(min(255.0, pixels / 256))  # Of the histogram's entries, not of the image.
        return _blend(jnp.asarray(mean, jnp.uint8), images, _factor(magnitude))

    return apply


def _brightness(magnitude: int) -> Operation:
    return lambda images, draws: _blend(jnp.zeros((), jnp.uint8), images, _factor(magnitude))


def _sharpness(magnitude: int) -> Operation:
    def apply(images: jax.Array, draws: Draws) -> jax.Array:
        del draws
        x = images.astype(jnp.float32)
        height, width = x.shape[1:3]
        weight = np.full((3, 3), 1 / 13, np.float32)
        weight[1, 1] = 5 / 13
        shifted = [
            x[:, i : height - 2 + i, j : width - 2 + j] * weight[i, j] for i in range(3) for j in range(3)
        ]
        smooth = _to_uint8(sum(shifted))
        # The border has no neighbors on one side and stays.
        return _blend(images.at[:, 1:-1, 1:-1].set(smooth), images, _factor(magnitude))

    return apply


# ---- Geometry: nearest neighbors, gray from outside.


def _warp(images: jax.Array, matrix: jax.Array) -> jax.Array:
    """Output pixel (x, y) takes the input at matrix [N, 2, 3] times (x, y, 1), rounded half away from 0."""
    count, height, width, _ = images.shape
    x = jnp.arange(width, dtype=jnp.float32)[None, None, :]
    y = jnp.arange(height, dtype=jnp.float32)[None, :, None]
    m = matrix[:, :, :, None, None]
    from_x = _round_away(m[:, 0, 0] * x + m[:, 0, 1] * y + m[:, 0, 2])
    from_y = _round_away(m[:, 1, 0] * x + m[:, 1, 1] * y + m[:, 1, 2])
    inside = (from_x >= 0) & (from_x < width) & (from_y >= 0) & (from_y < height)
    flat = jnp.where(inside, from_y * width + from_x, 0).reshape(count, -1, 1)
    moved = jnp.take_along_axis(images.reshape(count, height * width, -1), flat, axis=1)
    return jnp.where(inside[..., None], moved.reshape(images.shape), jnp.uint8(_FILL))


def _round_away(x: jax.Array) -> jax.Array:
    return (jnp.sign(x) * jnp.floor(jnp.abs(x) + 0.5)).astype(jnp.int32)


def _affine(
    a: jax.Array | float,
    b: jax.Array | float,
    c: jax.Array | float,
    d: jax.Array | float,
    e: jax.Array | float,
    f: jax.Array | float,
    count: int,
) -> jax.Array:
    entries = [jnp.broadcast_to(jnp.asarray(v, jnp.float32), (count,)) for v in (a, b, c, d, e, f)]
    return jnp.stack(entries, axis=1).reshape(count, 2, 3)


def _rotate(magnitude: int) -> Operation:
    def apply(images: jax.Array, draws: Draws) -> jax.Array:
        count, height, width, _ = images.shape
        angle = draws.sign * np.float32(3 * magnitude * (np.pi / 180))
        cos, sin = jnp.cos(angle), jnp.sin(angle)
        shift_x = ((width - 1) - (cos * (width - 1) - sin * (height - 1))) / 2
        shift_y = ((height - 1) - (sin * (width - 1) + cos * (height - 1))) / 2
        return _warp(images, _affine(cos, -sin, shift_x, sin, cos, shift_y, count))

    return apply


def _shear_x(magnitude: int) -> Operation:
    return lambda images, draws: _warp(
        images, _affine(1, draws.sign * (0.03 * magnitude), 0, 0, 1, 0, images.shape[0])
    )


def _shear_y(magnitude: int) -> Operation:
    return lambda images, draws: _warp(
        images, _affine(1, 0, 0, draws.sign * (0.03 * magnitude), 1, 0, images.shape[0])
    )


def _translate_x(magnitude: int) -> Operation:
    return lambda images, draws: _warp(
        images, _affine(1, 0, draws.sign * (10.0 * magnitude), 0, 1, 0, images.shape[0])
    )


def _translate_y(magnitude: int) -> Operation:
    return lambda images, draws: _warp(
        images, _affine(1, 0, 0, 0, 1, draws.sign * (10.0 * magnitude), images.shape[0])
    )


def _cutout(magnitude: int) -> Operation:
    def apply(images: jax.Array, draws: Draws) -> jax.Array:
        half = int(4 * magnitude)

        def near(center: jax.Array, length: int) -> jax.Array:
            offset = jnp.arange(length)[None, :] - center[:, None]
            return (offset >= -half) & (offset < half)

        rows, columns = near(draws.row, images.shape[1]), near(draws.column, images.shape[2])
        hole = rows[:, :, None, None] & columns[:, None, :, None]
        return jnp.where(hole, jnp.uint8(_FILL), images)

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
    'TranslateX': _translate_x,
    'TranslateY': _translate_y,
    'Cutout': _cutout,
}
