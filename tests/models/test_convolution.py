"""Convolutions and their derivatives, against XLA's own in float64, and the form they take by platform."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nfnets.models import convolution as lib
from nfnets.models.convolution import convolve

# Kernel, stride and groups, and the input's height and width: odd, even, and less than the kernel.
CASES = [
    (1, 2, 1, (9, 6)),
    (1, 1, 2, (9, 6)),
    (3, 1, 2, (9, 6)),
    (3, 2, 1, (9, 6)),
    (7, 2, 1, (9, 6)),
    (3, 2, 1, (2, 1)),
]
PLATFORMS = ['cpu', 'tpu', 'cuda']


def _xla(x, w, stride=1, groups=1, padding='SAME'):
    return jax.lax.conv_general_dilated(
        x,
        w,
        (stride, stride),
        padding,
        dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
        feature_group_count=groups,
    )


def _drawn(kernel, groups, size, inputs=12, outputs=24):
    rng = np.random.default_rng(0)
    shapes = (2, *size, inputs), (kernel, kernel, inputs // groups, outputs)
    return tuple(rng.normal(size=shape) for shape in shapes * 2)


def _derivatives(convolve, x, w, dx, dw):
    """Of a function of two arrays, by name: all that its values and gradients are transformed into."""

    def loss(x, w):
        return jnp.sum(jnp.sin(convolve(x, w)))

    gradients = jax.grad(loss, (0, 1))

    def steepness(x, w):
        return sum(jnp.sum(jnp.sin(g)) for g in gradients(x, w))

    first, second = jax.jvp(gradients, (x, w), (dx, dw))
    return {
        'tangent': jax.jvp(convolve, (x, w), (dx, dw)),
        'gradients': first,
        'forward over reverse': second,
        'reverse over reverse': jax.grad(steepness, (0, 1))(x, w),
        'of many inputs': jax.vmap(gradients, (0, None))(jnp.stack([x, dx]), w),
        'of many kernels': jax.vmap(convolve, (None, 3), 1)(x, jnp.stack([w, dw], axis=3)),
    }


def _assert_same(actual, expected):
    assert actual.keys() == expected.keys()
    for name, tree in expected.items():
        for a, e in zip(jax.tree.leaves(actual[name]), jax.tree.leaves(tree), strict=True):
            np.testing.assert_allclose(a, e, rtol=1e-12, atol=1e-12, err_msg=name)


@pytest.mark.parametrize(('kernel', 'stride', 'groups', 'size'), CASES)
def test_values_and_gradients_are_those_of_xla(kernel, stride, groups, size):
    def with_gradients(fn, x, w):
        out, vjp = jax.vjp(lambda x, w: fn(x, w, stride=stride, groups=groups), x, w)
        return {'values': out, 'gradients': vjp(jnp.cos(out))}

    x, w, *_ = _drawn(kernel, groups, size)
    with jax.enable_x64(True):
        actual, expected = jax.jit(lambda: [with_gradients(fn, x, w) for fn in (convolve, _xla)])()
    assert actual['values'].shape == (2, -(-size[0] // stride), -(-size[1] // stride), 24)
    _assert_same(actual, expected)


@pytest.mark.parametrize(('kernel', 'stride', 'groups', 'size'), [*CASES, (3, 2, 2, (8, 6))])
def test_symmetric_padding_is_half_of_the_kernel_on_either_side(kernel, stride, groups, size):
    """PyTorch's and its rule for the size of the output, in which less may be read at the far end."""

    def with_gradients(fn, padding, x, w):
        out, vjp = jax.vjp(lambda x, w: fn(x, w, stride=stride, groups=groups, padding=padding), x, w)
        return {'values': out, 'gradients': vjp(jnp.cos(out))}

    x, w, *_ = _drawn(kernel, groups, size)
    torch = [((kernel - 1) // 2,) * 2] * 2
    with jax.enable_x64(True):
        actual, expected = jax.jit(
            lambda: (with_gradients(convolve, 'symmetric', x, w), with_gradients(_xla, torch, x, w))
        )()
    assert actual['values'].shape == (2, -(-size[0] // stride), -(-size[1] // stride), 24)
    _assert_same(actual, expected)


@pytest.mark.parametrize(('kernel', 'stride', 'groups'), [(1, 1, 1), (3, 2, 2)])
def test_what_values_and_gradients_are_transformed_into_is_that_of_xla(kernel, stride, groups):
    def transformed(fn):
        of_two = lambda x, w: fn(x, w, stride=stride, groups=groups)  # noqa: E731
        return _derivatives(of_two, *map(jnp.asarray, _drawn(kernel, groups, (5, 4))))

    with jax.enable_x64(True):
        actual, expected = jax.jit(lambda: [transformed(fn) for fn in (convolve, _xla)])()
    _assert_same(actual, expected)


def test_derivatives_within_a_loop_are_those_of_xla():
    x, w, _, dw = _drawn(3, 2, (5, 4), 6, 6)
    w, dw = np.stack([w, 2 * w, -w]), np.stack([dw, w, dw])

    def chained(fn):
        def loss(w):
            body = lambda x, w: (jnp.sin(fn(x, w, groups=2)), None)  # noqa: E731
            return jnp.sum(jax.lax.scan(jax.checkpoint(body), x, w)[0] ** 2)

        return dict(enumerate(jax.jvp(jax.value_and_grad(loss), (w,), (dw,))))

    with jax.enable_x64(True):
        actual, expected = jax.jit(lambda: [chained(fn) for fn in (convolve, _xla)])()
    _assert_same(actual, expected)


@pytest.mark.parametrize(('kernel', 'stride', 'groups'), [(1, 1, 1), (3, 2, 3)])
def test_in_bfloat16_all_is_bfloat16_and_right_to_its_rounding(kernel, stride, groups):
    x, w, *_ = (jnp.asarray(z, jnp.bfloat16) for z in _drawn(kernel, groups, (9, 6)))

    def with_gradients(fn, x, w):
        out, vjp = jax.vjp(lambda x, w: fn(x, w, stride=stride, groups=groups), x, w)
        return out, *vjp(jnp.ones_like(out))

    actual = jax.jit(lambda: with_gradients(convolve, x, w))()
    expected = with_gradients(_xla, x.astype(jnp.float32), w.astype(jnp.float32))
    for a, e in zip(actual, expected, strict=True):
        assert a.dtype == jnp.bfloat16
        assert np.max(np.abs(np.float32(a) - e)) < 2**-8 * np.max(np.abs(e))


def test_outside_of_a_compiled_program_it_is_the_same():
    x, w, *_ = (jnp.asarray(z, jnp.float32) for z in _drawn(3, 3, (9, 6)))
    run = lambda x, w: jax.vjp(lambda x, w: convolve(x, w, stride=2, groups=3), x, w)[1]  # noqa: E731
    grad = jnp.ones((2, 5, 3, 24))
    for alone, within in zip(run(x, w)(grad), jax.jit(lambda x, w: run(x, w)(grad))(x, w), strict=True):
        np.testing.assert_allclose(alone, within, rtol=1e-5, atol=1e-5)


def _lowered(platform, kernel=3, stride=1, groups=4, images=2):
    """Programs of values, of the gradient by input and of that by kernel, one each."""
    x, w = jnp.zeros((images, 4, 4, 8)), jnp.zeros((kernel, kernel, 8 // groups, 12))
    run = lambda x, w: convolve(x, w, stride=stride, groups=groups)  # noqa: E731
    programs = run, jax.grad(lambda x, w: jnp.sum(run(x, w))), jax.grad(lambda w, x: jnp.sum(run(x, w)))
    arguments = (x, w), (x, w), (w, x)
    return [
        jax.jit(program).trace(*given).lower(lowering_platforms=(platform,)).as_text()
        for program, given in zip(programs, arguments, strict=True)
    ]


def _convolutions(text):
    return [line for line in text.splitlines() if 'stablehlo.convolution' in line]


def _groups(line):
    features, examples = (re.search(rf'{kind}_group_count = (\d+)', line)[1] for kind in ('feature', 'batch'))
    return int(features) * int(examples)


@pytest.mark.parametrize('images', [2, 64])
@pytest.mark.parametrize('platform', PLATFORMS)
def test_a_convolution_is_xlas_or_one_for_each_group_on_a_cpu_and_with_many_images_on_a_tpu(platform, images):
    for text in _lowered(platform, images=images):
        groups = [_groups(line) for line in _convolutions(text)]
        is_by_group = platform == 'cpu' or (platform == 'tpu' and images == 64)
        assert groups == ([1] * 4 if is_by_group else [4])


@pytest.mark.parametrize('stride', [1, 2])
def test_the_forms_for_many_images_on_a_tpu_are_those_of_xla(stride):
    rng = np.random.default_rng(0)
    x, w = rng.normal(size=(64, 5, 4, 6)), rng.normal(size=(3, 3, 2, 9))
    grad = rng.normal(size=(64, -(-5 // stride), -(-4 // stride), 9))
    params = {'stride': stride, 'groups': 3, 'x_shape': x.shape, 'w_shape': w.shape, 'precision': None}
    params['pads'] = lib.pads(x.shape[1:3], w.shape[:2], stride, 'same')
    cases = {lib.xla_convolution: (x, w), lib._xla_to_input: (grad, w), lib._xla_to_kernel: (x, grad)}
    with jax.enable_x64(True):
        for form, arguments in cases.items():
            arguments = tuple(map(jnp.asarray, arguments))
            actual, expected = lib._tpu(form)(*arguments, **params), form(*arguments, **params)
            np.testing.assert_allclose(actual, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize('platform', PLATFORMS)
def test_on_a_cpu_alone_a_convolution_of_one_pixel_is_a_product(platform):
    for text in _lowered(platform, kernel=1, groups=1):
        is_product = platform == 'cpu'
        assert (len(_convolutions(text)), text.count('stablehlo.dot_general')) == (
            not is_product,
            is_product,
        )


@pytest.mark.parametrize('stride', [1, 2])
def test_on_a_cpu_gradients_are_convolutions_in_the_order_of_axes_that_is_fast_anywhere(stride):
    for text in _lowered('cpu', stride=stride, groups=1):
        (line,) = _convolutions(text)
        assert 'dim_numbers = [b, 0, 1, f]x[0, 1, i, o]->[b, 0, 1, f]' in line
