"""The stem on blocks of pixels against the stem on pixels: values and gradients, and its kernels by hand."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nfnets.models import stem as lib
from nfnets.models.activations import ACTIVATIONS

CHANNELS, STRIDES = (3, 4, 6, 5, 8), (2, 1, 1, 2)


def _convolutions(rng):
    for inputs, outputs, stride in zip(CHANNELS, CHANNELS[1:], STRIDES, strict=False):
        kernel = rng.normal(size=(3, 3, inputs, outputs)) / np.sqrt(9 * inputs)
        yield lib.StemConvolution(jnp.asarray(kernel), jnp.asarray(rng.normal(size=outputs)), stride)


def _run(images, convolutions, on_blocks, monkeypatch):
    def choose(*args, default, tpu):
        return (tpu if on_blocks else default)(*args)

    monkeypatch.setattr(jax.lax, 'platform_dependent', choose)
    strides = [each.stride for each in convolutions]

    def loss(images, arrays):
        each = [lib.StemConvolution(*pair, stride) for pair, stride in zip(arrays, strides, strict=True)]
        out = lib.run_stem(images, each, ACTIVATIONS['gelu'])
        return jnp.sum(jnp.sin(out) * jnp.arange(out.size).reshape(out.shape)), out

    arrays = [(each.kernel, each.bias) for each in convolutions]
    return jax.jit(jax.grad(loss, (0, 1), has_aux=True))(images, arrays)


@pytest.mark.parametrize('shape', [(8, 8), (12, 20), (32, 32)])
def test_on_blocks_values_and_gradients_are_those_on_pixels(shape, monkeypatch):
    rng = np.random.default_rng(0)
    with jax.enable_x64(True):
        images = jnp.asarray(rng.normal(size=(2, *shape, 3)))
        convolutions = list(_convolutions(rng))
        plain = _run(images, convolutions, False, monkeypatch)
        blocked = _run(images, convolutions, True, monkeypatch)
        assert blocked[1].shape == (2, shape[0] // 4, shape[1] // 4, CHANNELS[-1])
        jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-9, atol=1e-9), blocked, plain)


@pytest.mark.parametrize(('count', 'size'), [(1, 97), (1, 98), (64, 32)])
def test_many_images_or_of_no_multiple_of_a_block_are_run_on_pixels(count, size, monkeypatch):
    monkeypatch.setattr(jax.lax, 'platform_dependent', None)
    images = jnp.zeros((count, size, size, 3))
    convolutions = list(_convolutions(np.random.default_rng(0)))
    out = lib.run_stem(images, convolutions, ACTIVATIONS['relu'])
    assert out.shape == (count, -(-size // 4), -(-size // 4), CHANNELS[-1])


def test_a_kernel_on_blocks_has_each_element_once_for_each_output_of_a_block():
    kernel = jnp.arange(1.0, 10.0).reshape(3, 3, 1, 1)
    on_blocks = np.asarray(lib.on_blocks(kernel, 1, 2))
    assert on_blocks.shape == (3, 3, 4, 4)
    # The upper left pixel of a block: its own block's, and the neighbors' nearest.
    np.testing.assert_array_equal(on_blocks[1, 1, :, 0], [5, 6, 8, 9])
    np.testing.assert_array_equal(on_blocks[0, 0, :, 0], [0, 0, 0, 1])
    np.testing.assert_array_equal(on_blocks[1, 2, :, 0], 0)
    values, counts = np.unique(on_blocks[on_blocks > 0], return_counts=True)
    np.testing.assert_array_equal(values, np.arange(1, 10))
    np.testing.assert_array_equal(counts, 4)
