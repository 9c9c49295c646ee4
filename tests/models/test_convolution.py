"""The convolutions of a CPU, and their gradients, against XLA's own in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import programs
import pytest

from nfnets.models.convolution import convolve, only_xla

SHAPES = [(1, 1, 1), (1, 2, 1), (1, 1, 4), (3, 1, 1), (3, 2, 1), (3, 1, 3), (3, 2, 3), (7, 2, 1)]


@pytest.mark.parametrize(('kernel', 'stride', 'groups'), SHAPES)
def test_values_and_gradients_are_those_of_xla(kernel, stride, groups):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, 9, 6, 12))
    w = rng.normal(size=(kernel, kernel, 12 // groups, 24))

    def with_gradients(x, w):
        out, vjp = jax.vjp(lambda x, w: convolve(x, w, stride=stride, groups=groups), x, w)
        return out, *vjp(jnp.cos(out))

    with jax.enable_x64(True):
        actual = jax.jit(with_gradients)(x, w)
        with only_xla():
            expected = jax.jit(lambda x, w: with_gradients(x, w))(x, w)  # A function not yet traced.
    assert actual[0].shape == (2, -(-9 // stride), -(-6 // stride), 24)
    for a, b in zip(actual, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12)


def test_on_a_cpu_nothing_is_left_to_xlas_grouped_convolution():
    def groups_of(x, w):
        return str(jax.make_jaxpr(lambda x, w: convolve(x, w, groups=4))(x, w))

    x, w = jnp.zeros((1, 4, 4, 8)), jnp.zeros((3, 3, 2, 8))
    assert 'feature_group_count=4' not in groups_of(x, w)
    assert groups_of(x, w).count('conv_general_dilated[') == 4
    with only_xla():
        assert 'feature_group_count=4' in groups_of(x, w)


@pytest.mark.parametrize('stride', [1, 2])
def test_gradients_are_convolutions_in_the_order_of_axes_that_is_fast_anywhere(stride):
    def gradients(x, w):
        return jax.grad(lambda x, w: jnp.sum(convolve(x, w, stride=stride)), (0, 1))(x, w)

    program = jax.make_jaxpr(gradients)(jnp.zeros((2, 8, 8, 4)), jnp.zeros((3, 3, 4, 6))).jaxpr
    convolutions = [e for e in programs.equations(program) if e.primitive.name == 'conv_general_dilated']
    specs = [e.params['dimension_numbers'] for e in convolutions]
    assert len(specs) == 3
    assert all(s == ((0, 3, 1, 2), (3, 2, 0, 1), (0, 3, 1, 2)) for s in specs)
