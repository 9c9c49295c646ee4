"""Histograms and tables of levels, in every form, against NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nfnets.data import levels as lib

LEVELS = np.random.default_rng(0).integers(0, 256, (2, 3, 1000)) // np.asarray([1, 2, 300])[None, :, None]
TABLES = np.random.default_rng(1).integers(0, 256, (2, 3, 256))


@pytest.mark.parametrize('count', [lib.count_levels, lib.count_by_product])
def test_levels_are_counted_by_image_and_channel(count):
    expected = [[np.bincount(channel, minlength=256) for channel in image] for image in LEVELS]
    np.testing.assert_array_equal(jax.jit(count)(jnp.asarray(LEVELS)), expected)


@pytest.mark.parametrize('look_up', [lib.look_up, lib.look_up_by_product])
def test_levels_are_looked_up_in_their_own_table(look_up):
    expected = np.take_along_axis(TABLES, LEVELS, axis=2)
    np.testing.assert_array_equal(jax.jit(look_up)(jnp.asarray(LEVELS), jnp.asarray(TABLES)), expected)
