"""Histograms of levels and tables for them, in the form that each backend runs fastest.

CPUs and GPUs count and look up one by one. TPUs are slow at that; there a level is two digits of base 16,
each a vector of sixteen with a single one, and counting and looking up are products of these.
"""

import jax
import jax.numpy as jnp

_BASE = 16


def count_levels(levels: jax.Array) -> jax.Array:
    """Histograms: int32 [N, C, P] of levels 0..255 to int32 [N, C, 256]."""
    return jax.lax.platform_dependent(levels, tpu=count_by_product, default=count_one_by_one)


def look_up(levels: jax.Array, tables: jax.Array) -> jax.Array:
    """Replaces levels: int32 [N, C, P] of 0..255 by tables int32 [N, C, 256] of 0..255."""
    return jax.lax.platform_dependent(levels, tables, tpu=look_up_by_product, default=look_up_one_by_one)


def _offsets(levels: jax.Array) -> jax.Array:
    """The level in one histogram of all channels of all images, behind each other."""
    rows = jnp.arange(levels.shape[0] * levels.shape[1], dtype=jnp.int32)
    return levels + 256 * rows.reshape(*levels.shape[:2], 1)


def count_one_by_one(levels: jax.Array) -> jax.Array:
    """`count_levels` by additions to single elements."""
    shape = (*levels.shape[:2], 256)
    histogram = jnp.zeros(shape, jnp.int32).reshape(-1)
    return histogram.at[_offsets(levels).reshape(-1)].add(1).reshape(shape)


def look_up_one_by_one(levels: jax.Array, tables: jax.Array) -> jax.Array:
    """`look_up` by reading single elements."""
    return tables.reshape(-1)[_offsets(levels)]


def count_by_product(levels: jax.Array) -> jax.Array:
    """`count_levels` by a product: of up to 2^24 pixels, as float32 has exact integers."""
    high, low = _digits(levels)
    counts = jnp.einsum('ncip,ncjp->ncij', high, low, preferred_element_type=jnp.float32)
    return counts.astype(jnp.int32).reshape(*levels.shape[:2], 256)


def look_up_by_product(levels: jax.Array, tables: jax.Array) -> jax.Array:
    """`look_up` by a product with tables in bfloat16, which has the integers up to 256."""
    high, low = _digits(levels)
    tables = tables.astype(jnp.bfloat16).reshape(*tables.shape[:2], _BASE, _BASE)
    rows = jnp.einsum('ncij,ncip->ncjp', tables, high, preferred_element_type=jnp.float32)
    return jnp.sum(rows * low.astype(jnp.float32), axis=2).astype(jnp.int32)


def _digits(levels: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The two digits of each level as one-hot vectors, bfloat16 [N, C, 16, P]."""
    values = jnp.arange(_BASE, dtype=jnp.int32)[None, None, :, None]
    digits = (levels // _BASE)[:, :, None], (levels % _BASE)[:, :, None]
    high, low = ((digit == values).astype(jnp.bfloat16) for digit in digits)
    return high, low
