"""Convolutions in the form that each backend runs fastest; the sum is the same, its order is not.

A convolution and its two gradients are primitives of JAX: each is linear in both of its arguments, and the
transposes of each are the other two, so every transformation of JAX applies. How one is computed is chosen
when it is lowered, by the backend that it is lowered for.

On GPU, and on TPU for fewer than 64 images, that is XLA's own convolution; on TPU for more, one for each
group. On a CPU, XLA is slow at all three passes of a grouped convolution, most of all at its gradient with
respect to the kernel (`docs/performance.md` has the steps): there a convolution for each group is fast in all
three, and a 1x1 convolution is a matrix product. Within a loop, XLA's CPU backend is fast only at
convolutions whose axes are in the usual order (NHWC, HWIO): the gradients are written out in it.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

from nfnets.errors import InputError

CONVOLVED = 'convolved'  # The name of what convolutions give, for policies of `jax.checkpoint`.
MANY = 64  # Images of a device with which XLA's TPU compiler fills the lanes, where it likes to.
PADDINGS = ('same', 'symmetric')
_LAYOUT = ('NHWC', 'HWIO', 'NHWC')

Pads = tuple[tuple[int, int], ...]
Padding = str | Pads


def convolve(
    x: jax.Array, w: jax.Array, *, stride: int = 1, groups: int = 1, padding: Padding = 'same'
) -> jax.Array:
    """Convolves, with zeros around the input.

    Args:
      x: [N, H, W, I].
      w: [h, w, I / groups, O].
      stride: in both directions.
      groups: input and output channels are split into so many, each convolved with its own.
      padding: as of `pads`, or what that gives.

    Returns:
      [N, ceil(H / stride), ceil(W / stride), O] with the paddings that have a name.
    """
    params = {
        'stride': stride,
        'groups': groups,
        'pads': pads(x.shape[1:3], w.shape[:2], stride, padding) if isinstance(padding, str) else padding,
        'x_shape': x.shape,
        'w_shape': w.shape,
        # As JAX's own operations: what holds here holds for the gradients.
        'precision': jax.config.jax_default_matmul_precision,  # type: ignore[attr-defined]
    }
    return checkpoint_name(convolve_p.bind(x, w, **params), CONVOLVED)


def pads(sizes: Sequence[int], window: Sequence[int], stride: int, padding: str) -> Pads:
    """Zeros before and after the input in each direction, px, for outputs of ceil(size / stride).

    Args:
      sizes: height and width of the input.
      window: height and width of what moves over it.
      stride: in both directions.
      padding: 'same': TensorFlow's, as many before as after or one less, as the size asks for. 'symmetric':
        PyTorch's, half of the window before, whatever the size; another alignment with a stride and even
        sizes.

    Raises:
      InputError: there is no such padding.
    """
    if padding not in PADDINGS:
        raise InputError(f'padding={padding!r} is not allowed: it must be one of {", ".join(PADDINGS)}')
    found = []
    for size, extent in zip(sizes, window, strict=True):
        spread = (-(-size // stride) - 1) * stride + extent
        before = max(spread - size, 0) // 2 if padding == 'same' else (extent - 1) // 2
        found.append((before, max(spread - size - before, 0)))
    return tuple(found)


# ---- XLA's own.


def xla_convolution(
    x: jax.Array, w: jax.Array, stride: int, groups: int, pads: Pads, precision: str | None = None, **_: Any
) -> jax.Array:
    """The convolution as `jax.lax` has it, which every backend lowers alike; pads as `pads` gives them."""
    return jax.lax.conv_general_dilated(
        x,
        w,
        (stride, stride),
        pads,
        dimension_numbers=_LAYOUT,
        feature_group_count=groups,
        precision=precision,
    )


def _xla_to_input(grad: jax.Array, w: jax.Array, **params: Any) -> jax.Array:
    x = jax.ShapeDtypeStruct(params['x_shape'], grad.dtype)
    return jax.linear_transpose(lambda x: xla_convolution(x, w, **params), x)(grad)[0]


def _xla_to_kernel(x: jax.Array, grad: jax.Array, **params: Any) -> jax.Array:
    w = jax.ShapeDtypeStruct(params['w_shape'], grad.dtype)
    return jax.linear_transpose(lambda w: xla_convolution(x, w, **params), w)(grad)[0]


# ---- On a TPU, with so many images that they fill the lanes.


def _tpu(fn: Callable[..., jax.Array]) -> Callable[..., jax.Array]:
    """The form of one of XLA's three for a TPU."""

    def convolution(a: jax.Array, b: jax.Array, **params: Any) -> jax.Array:
        groups, x_shape, w_shape = (params[key] for key in ('groups', 'x_shape', 'w_shape'))
        if groups == 1 or x_shape[0] < MANY:
            return fn(a, b, **params)
        # XLA's TPU compiler would put the images of grouped convolutions in the lanes, and copy between that
        # order and the one of all that is around them.
        of_one = {
            'groups': 1,
            'x_shape': (*x_shape[:3], x_shape[3] // groups),
            'w_shape': (*w_shape[:3], w_shape[3] // groups),
        }
        return _by_group(functools.partial(fn, **{**params, **of_one}), a, b, groups)

    return convolution


# ---- On a CPU.


def _is_product(params: dict[str, Any]) -> bool:
    return params['w_shape'][:2] == (1, 1) and params['stride'] == params['groups'] == 1


def _cpu(x: jax.Array, w: jax.Array, **params: Any) -> jax.Array:
    if _is_product(params):
        return jnp.matmul(x, w[0, 0], precision=params['precision'])
    one_group = functools.partial(xla_convolution, **{**params, 'groups': 1})
    return _by_group(one_group, x, w, params['groups'])


def _cpu_to_input(grad: jax.Array, w: jax.Array, **params: Any) -> jax.Array:
    if _is_product(params):
        return jnp.matmul(grad, w[0, 0].T, precision=params['precision'])
    return _by_group(functools.partial(_one_to_input, **params), grad, w, params['groups'])


def _cpu_to_kernel(x: jax.Array, grad: jax.Array, **params: Any) -> jax.Array:
    if _is_product(params):
        w = jnp.tensordot(x, grad, ((0, 1, 2), (0, 1, 2)), precision=params['precision'])
        return w[None, None]
    return _by_group(functools.partial(_one_to_kernel, **params), x, grad, params['groups'])


def _by_group(fn: Callable[..., jax.Array], a: jax.Array, b: jax.Array, groups: int) -> jax.Array:
    parts = zip(jnp.split(a, groups, axis=3), jnp.split(b, groups, axis=3), strict=True)
    return jnp.concatenate([fn(*part) for part in parts], axis=3)


def _one_to_input(
    grad: jax.Array, w: jax.Array, stride: int, precision: str | None, **params: Any
) -> jax.Array:
    # The gradient with gaps, convolved with the kernel turned round.
    turned = w[::-1, ::-1].transpose(0, 1, 3, 2)
    padding = [
        (size - 1 - low, length + low - spread)
        for size, length, low, spread in _geometry(grad, stride, **params)
    ]
    return jax.lax.conv_general_dilated(
        grad, turned, (1, 1), padding, (stride, stride), dimension_numbers=_LAYOUT, precision=precision
    )


def _one_to_kernel(
    x: jax.Array, grad: jax.Array, stride: int, precision: str | None, **params: Any
) -> jax.Array:
    # The input, whose channels stand as examples, convolved with the gradient.
    padding = [
        (low, size - 1 + spread - length - low)
        for size, length, low, spread in _geometry(grad, stride, **params)
    ]
    w = jax.lax.conv_general_dilated(
        x.transpose(3, 1, 2, 0),
        grad.transpose(1, 2, 0, 3),
        (1, 1),
        padding,
        rhs_dilation=(stride, stride),
        dimension_numbers=_LAYOUT,
        precision=precision,
    )
    return w.transpose(1, 2, 0, 3)


def _geometry(
    grad: jax.Array, stride: int, pads: Pads, x_shape: Sequence[int], w_shape: Sequence[int], **_: Any
) -> list[tuple[int, int, int, int]]:
    """For height and width: the kernel's size, the input's, its padding before, the gradient's with gaps."""
    return [
        (w_shape[i], x_shape[1 + i], low, (grad.shape[1 + i] - 1) * stride + 1)
        for i, (low, _) in enumerate(pads)
    ]


# ---- The primitives.


def _output_shape(x: Any, w: Any, stride: int, pads: Pads, **_: Any) -> tuple[int, ...]:
    height, width = (
        (size + before + after - extent) // stride + 1
        for size, extent, (before, after) in zip(x.shape[1:3], w.shape[:2], pads, strict=True)
    )
    return (x.shape[0], height, width, w.shape[3])


def _primitive(
    name: str,
    shape: Callable[..., tuple[int, ...]],
    xla: Callable[..., jax.Array],
    cpu: Callable[..., jax.Array],
) -> Primitive:
    primitive = Primitive(name)
    primitive.def_abstract_eval(lambda a, b, **params: a.update(shape=shape(a, b, **params), weak_type=False))
    primitive.def_impl(lambda *args, **params: _compiled(primitive, tuple(params.items()))(*args))
    mlir.register_lowering(primitive, mlir.lower_fun(xla, multiple_results=False))
    mlir.register_lowering(primitive, mlir.lower_fun(_tpu(xla), multiple_results=False), platform='tpu')
    mlir.register_lowering(primitive, mlir.lower_fun(cpu, multiple_results=False), platform='cpu')

    def batched(args: Sequence[jax.Array], dims: Sequence[int | None], **params: Any) -> tuple[Any, int]:
        size = next(a.shape[d] for a, d in zip(args, dims, strict=True) if d is not None)
        each = [
            jnp.broadcast_to(a, (size, *a.shape)) if d is None else jnp.moveaxis(a, d, 0)
            for a, d in zip(args, dims, strict=True)
        ]
        return jax.lax.map(lambda pair: primitive.bind(*pair, **params), each), 0

    batching.primitive_batchers[primitive] = batched
    return primitive


@functools.cache
def _compiled(primitive: Primitive, params: tuple[tuple[str, Any], ...]) -> Callable[..., jax.Array]:
    return jax.jit(functools.partial(primitive.bind, **dict(params)))


convolve_p = _primitive('convolve', _output_shape, xla_convolution, _cpu)
to_input_p = _primitive('convolve_to_input', lambda g, w, x_shape, **_: x_shape, _xla_to_input, _cpu_to_input)
to_kernel_p = _primitive(
    'convolve_to_kernel', lambda x, g, w_shape, **_: w_shape, _xla_to_kernel, _cpu_to_kernel
)

ad.defbilinear(
    convolve_p,
    lambda grad, x, w, **params: to_input_p.bind(grad, w, **params),
    lambda grad, x, w, **params: to_kernel_p.bind(x, grad, **params),
)
ad.defbilinear(
    to_input_p,
    lambda x, grad, w, **params: convolve_p.bind(x, w, **params),
    lambda x, grad, w, **params: to_kernel_p.bind(x, grad, **params),
)
ad.defbilinear(
    to_kernel_p,
    lambda w, x, grad, **params: to_input_p.bind(grad, w, **params),
    lambda w, x, grad, **params: convolve_p.bind(x, w, **params),
)
