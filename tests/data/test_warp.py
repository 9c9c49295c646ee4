"""Rotations and shears: single pixels in NumPy, and both forms of them on the device."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nfnets.data import warp as warp_lib
from nfnets.data.pixels import gray

FILL = gray(128)


def _maps(kind, magnitude, height, width):
    def one(sign):
        angle, shear = sign * np.radians(3 * magnitude), sign * 0.03 * magnitude
        cos, sin = np.cos(angle), np.sin(angle)
        right, down = width - 1, height - 1
        middle = (right - (cos * right - sin * down)) / 2, (down - (sin * right + cos * down)) / 2
        return {
            'rotate': [[cos, -sin, middle[0]], [sin, cos, middle[1]]],
            'shear_x': [[1, shear, 0], [0, 1, 0]],
            'shear_y': [[1, 0, 0], [shear, 1, 0]],
        }[kind]

    return np.asarray([one(1), one(-1)], np.float32)


def _expected(image, matrix):
    """Pixel by pixel."""
    height, width = image.shape
    out = np.full_like(image, FILL)
    for y in range(height):
        for x in range(width):
            place = matrix @ np.asarray([x, y, 1], np.float32)
            column, row = np.sign(place) * np.floor(np.abs(place) + np.float32(0.5))
            if 0 <= column < width and 0 <= row < height:
                out[y, x] = image[int(row), int(column)]
    return out


def _images(count, height, width):
    return np.random.default_rng(0).integers(0, 1 << 24, (count, height, width)).astype(np.int32)


@pytest.mark.parametrize('kind', ['rotate', 'shear_x', 'shear_y'])
def test_each_pixel_comes_from_its_nearest_neighbor_by_the_map_of_its_image(kind):
    images, maps = _images(3, 20, 31), _maps(kind, 7, 20, 31)
    choice = np.asarray([1, 0, 1])
    out = jax.jit(lambda x, choice: warp_lib.warp(x, choice, maps, FILL))(images, jnp.asarray(choice))
    for image, chosen, result in zip(images, choice, out, strict=True):
        # Where two are equally near, the order of the products in float32 decides.
        assert np.mean(result != _expected(image, maps[chosen])) < 5e-3


@pytest.mark.parametrize(('magnitude', 'size'), [(0, (8, 8)), (3, (47, 90)), (5, (192, 192)), (15, (90, 47))])
@pytest.mark.parametrize('kind', ['rotate', 'shear_x', 'shear_y'])
def test_moving_lines_gives_the_pixels_of_a_gather(kind, magnitude, size):
    maps, images = _maps(kind, magnitude, *size), _images(2, *size)
    sources = warp_lib.find_sources(maps, *size)
    moves = warp_lib.plan_moves(maps, sources)
    both = jax.jit(
        lambda x, choice: (
            warp_lib.by_moving(x, choice, moves),
            warp_lib.by_gathering(x, choice, sources),
        )
    )
    for choice in ([0, 1], [1, 1]):
        moved, expected = both(jnp.asarray(images), jnp.asarray(choice))
        inside = sources.inside[np.asarray(choice)]
        np.testing.assert_array_equal(moved[inside], expected[inside])


def test_a_map_that_turns_by_more_than_45_degrees_is_gathered():
    maps = _maps('rotate', 30, 32, 32)
    assert warp_lib.plan_moves(maps, warp_lib.find_sources(maps, 32, 32)) is None
