"""The stem on blocks of pixels against the stem on pixels: values and gradients, and its kernels by hand."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nfnets.models import stem as lib
from nfnets.models.activations import ACTIVATIONS
from nfnets.models.convolution import PADDINGS

CHANNELS, STRIDES = (3, 4, 6, 5, 8), (2, 1, 1, 2)


def _kernels(rng):
    for inputs, outputs in itertools.pairwise(CHANNELS):
        kernel = rng.normal(size=(3, 3, inputs, outputs)) / np.sqrt(9 * inputs)
        yield jnp.asarray(kernel), jnp.asarray(rng.normal(size=outputs))


def _run(images, kernels, padding):
    def loss(images, kernels):
        out = lib.run_stem(images, kernels, STRIDES, ACTIVATIONS['gelu'], padding)
        return jnp.sum(jnp.sin(out) * jnp.arange(out.size).reshape(out.shape)), out

    return jax.jit(jax.grad(loss, (0, 1), has_aux=True))(images, kernels)


@pytest.mark.parametrize('padding', PADDINGS)
@pytest.mark.parametrize('shape', [(8, 8), (12, 20), (32, 32)])
def test_on_blocks_values_and_gradients_are_those_on_pixels(shape, padding, form_for):
    rng = np.random.default_rng(0)
    with jax.enable_x64(True):
        images = jnp.asarray(rng.normal(size=(2, *shape, 3)))
        kernels = list(_kernels(rng))
        plain = _run(images, kernels, padding)
        form_for('tpu')
        blocked = _run(images, kernels, padding)
        assert blocked[1].shape == (2, shape[0] // 4, shape[1] // 4, CHANNELS[-1])
        jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-9, atol=1e-9), blocked, plain)


@pytest.mark.parametrize(('count', 'size'), [(1, 97), (1, 98), (64, 32)])
def test_many_images_or_of_no_multiple_of_a_block_are_run_on_pixels(count, size, monkeypatch):
    monkeypatch.setattr(jax.lax, 'platform_dependent', None)
    images = jnp.zeros((count, size, size, 3))
    kernels = list(_kernels(np.random.default_rng(0)))
    out = lib.run_stem(images, kernels, STRIDES, ACTIVATIONS['relu'])
    assert out.shape == (count, -(-size // 4), -(-size // 4), CHANNELS[-1])


def test_a_kernel_on_blocks_has_each_element_once_for_each_output_of_a_block():
    kernel = jnp.arange(1.0, 10.0).reshape(3, 3, 1, 1)
    on_blocks, pads = lib.on_blocks(kernel, 1, 2)
    on_blocks = np.asarray(on_blocks)
    assert pads == ((1, 1), (1, 1))
    assert on_blocks.shape == (3, 3, 4, 4)
    # The upper left pixel of a block: its own block's, and the neighbors' nearest.
    np.testing.assert_array_equal(on_blocks[1, 1, :, 0], [5, 6, 8, 9])
    np.testing.assert_array_equal(on_blocks[0, 0, :, 0], [0, 0, 0, 1])
    np.testing.assert_array_equal(on_blocks[1, 2, :, 0], 0)
    values, counts = np.unique(on_blocks[on_blocks > 0], return_counts=True)
    np.testing.assert_array_equal(values, np.arange(1, 10))
    np.testing.assert_array_equal(counts, 4)
