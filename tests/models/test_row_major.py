"""The order of gradients in memory is asked for on TPUs alone; nothing else changes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nfnets.models.row_major import row_major


@pytest.mark.parametrize(('platform', 'is_asked'), [('tpu', True), ('cpu', False), ('cuda', False)])
def test_the_order_is_asked_for_on_tpus_alone(platform, is_asked):
    traced = jax.jit(row_major).trace(jnp.zeros((3, 3, 4, 5)))
    text = traced.lower(lowering_platforms=(platform,)).as_text()
    assert ('LayoutConstraint' in text) == is_asked
    assert ('result_layouts = [dense<[3, 2, 1, 0]>' in text) == is_asked


def test_values_stay():
    x = np.arange(6.0).reshape(1, 2, 3)
    np.testing.assert_array_equal(jax.jit(row_major)(x), x)
    np.testing.assert_array_equal(row_major(jnp.asarray(x)), x)
