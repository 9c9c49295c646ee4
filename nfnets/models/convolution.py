"""Convolutions in the form that the backend runs fastest; the sum is the same, its order is not.

On a CPU, XLA's gradient of a grouped convolution with respect to its kernel takes 30 times what it should,
and its other two passes 3 times (`docs/performance.md`). A convolution for each group is fast in all three. A
1x1 convolution is a matrix product, of which only the products' library needs to be good. Shifted products
and patches gathered into columns were slower than either for every shape of F0.

Within a loop, XLA's CPU backend is fast only at convolutions whose axes are in the usual order (NHWC, HWIO);
elsewhere it brings them into it, there it falls back to nested loops, some ten times slower for the gradient
of a kernel. So the gradients are written out in that order here.

TPUs and GPUs keep XLA's own.
"""

import contextlib
import functools
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name

CONVOLVED = 'convolved'  # By which a policy of `jax.checkpoint` knows what convolutions give.

_only_xla = False


def convolve(x: jax.Array, w: jax.Array, *, stride: int = 1, groups: int = 1) -> jax.Array:
    """Convolves with SAME padding.

    Args:
      x: [N, H, W, I].
      w: [h, w, I / groups, O].
      stride: in both directions.
      groups: input and output channels are split into so many, each convolved with its own.

    Returns:
      [N, ceil(H / stride), ceil(W / stride), O].
    """
    return checkpoint_name(_convolved(x, w, stride, groups), CONVOLVED)


def _convolved(x: jax.Array, w: jax.Array, stride: int, groups: int) -> jax.Array:
    if _only_xla or jax.default_backend() != 'cpu':
        return _xla(x, w, stride, groups)
    if w.shape[:2] == (1, 1) and stride == 1 and groups == 1:
        return x @ w[0, 0]
    parts = zip(jnp.split(x, groups, axis=3), jnp.split(w, groups, axis=3), strict=True)
    return jnp.concatenate([_one_group(x_part, w_part, stride) for x_part, w_part in parts], axis=3)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _one_group(x: jax.Array, w: jax.Array, stride: int) -> jax.Array:
    return _xla(x, w, stride, 1)


def _one_group_forward(
    x: jax.Array, w: jax.Array, stride: int
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return _xla(x, w, stride, 1), (x, w)


def _one_group_backward(
    stride: int, residuals: tuple[jax.Array, jax.Array], grad: jax.Array
) -> tuple[jax.Array, jax.Array]:
    x, w = residuals
    size = w.shape[:2]
    before = [low for low, _ in jax.lax.padtype_to_pads(x.shape[1:3], size, (stride, stride), 'SAME')]
    spread = [(length - 1) * stride + 1 for length in grad.shape[1:3]]  # Of the gradient, with gaps.
    # The input's: the gradient with gaps, convolved with the kernel turned round.
    turned = w[::-1, ::-1].transpose(0, 1, 3, 2)
    padding = [
        (k - 1 - low, n + low - length)
        for k, low, n, length in zip(size, before, x.shape[1:3], spread, strict=True)
    ]
    grad_x = _convolve(grad, turned, padding, lhs_dilation=(stride, stride))
    # The kernel's: the input, whose channels stand as examples, convolved with the gradient.
    padding = [
        (low, k - 1 + length - n - low)
        for k, low, n, length in zip(size, before, x.shape[1:3], spread, strict=True)
    ]
    grad_w = _convolve(
        x.transpose(3, 1, 2, 0), grad.transpose(1, 2, 0, 3), padding, rhs_dilation=(stride, stride)
    )
    return grad_x, grad_w.transpose(1, 2, 0, 3)


_one_group.defvjp(_one_group_forward, _one_group_backward)


@contextlib.contextmanager
def only_xla() -> Iterator[None]:
    """What is traced within has XLA's own convolutions on any backend: to measure against, or for another."""
    global _only_xla
    _only_xla = True
    try:
        yield
    finally:
        _only_xla = False


def _xla(x: jax.Array, w: jax.Array, stride: int, groups: int) -> jax.Array:
    return _convolve(x, w, 'SAME', window_strides=(stride, stride), feature_group_count=groups)


def _convolve(
    x: jax.Array, w: jax.Array, padding: str | Sequence[tuple[int, int]], **settings: Any
) -> jax.Array:
    settings = {'window_strides': (1, 1), 'dimension_numbers': ('NHWC', 'HWIO', 'NHWC')} | settings
    return jax.lax.conv_general_dilated(x, w, padding=padding, **settings)
