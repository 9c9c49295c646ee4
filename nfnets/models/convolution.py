"""Convolutions in the form that the backend runs fastest; the sum is the same, its order is not.

On a CPU, XLA's gradient of a grouped convolution with respect to its kernel takes 30 times what it should,
and its other two passes 3 times (`docs/performance.md`). A convolution for each group is fast in all three. A
1x1 convolution is a matrix product, of which only the products' library needs to be good. Shifted products
and patches gathered into columns were slower than either for every shape of F0. TPUs and GPUs keep XLA's own.
"""

import contextlib
from collections.abc import Iterator

import jax
import jax.numpy as jnp

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
    if _only_xla or jax.default_backend() != 'cpu':
        return _xla(x, w, stride, groups)
    if w.shape[:2] == (1, 1) and stride == 1 and groups == 1:
        return x @ w[0, 0]
    parts = zip(jnp.split(x, groups, axis=3), jnp.split(w, groups, axis=3), strict=True)
    return jnp.concatenate([_xla(x_part, w_part, stride, 1) for x_part, w_part in parts], axis=3)


@contextlib.contextmanager
def only_xla() -> Iterator[None]:
    """What is traced within has XLA's own convolutions on any backend: to measure against."""
    global _only_xla
    _only_xla = True
    try:
        yield
    finally:
        _only_xla = False


def _xla(x: jax.Array, w: jax.Array, stride: int, groups: int) -> jax.Array:
    return jax.lax.conv_general_dilated(
        x,
        w,
        window_strides=(stride, stride),
        padding='SAME',
        feature_group_count=groups,
        dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
    )
