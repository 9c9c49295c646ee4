"""Runs a graph: in any library by its operations, and in JAX."""

import contextlib
from collections.abc import Callable, Sequence
from typing import Any

import haiku as hk
import jax
import jax.numpy as jnp

from nfnets.folding.graph import Arrays, Graph, Operations, Padding
from nfnets.folding.steps import ACTIVATIONS
from nfnets.models.convolution import convolve, xla_convolution
from nfnets.models.precision import float32_products


def run(graph: Graph, operations: Operations, images: Any, arrays: Sequence[Arrays] | None = None) -> Any:
    """Runs a graph with the operations of a library.

    Args:
      graph: the network.
      operations: of the library.
      images: [N, size, size, 3].
      arrays: of the nodes; None: those of the graph.

    Returns:
      Logits [N, K], float32.
    """
    values = [operations.enter(images, graph.offset)]
    for node, own in zip(graph.nodes, graph.arrays() if arrays is None else arrays, strict=True):
        inputs = [values[i] for i in node.inputs]
        values.append(getattr(operations, node.op)(*inputs, **own, **node.settings))
    return operations.leave(values[-1])


def apply(graph: Graph, arrays: Sequence[Arrays], images: jax.Array, *, is_plain: bool = False) -> jax.Array:
    """Runs a graph in JAX, products in float32 if its arrays are.

    Args:
      graph: the network.
      arrays: of its nodes; those of the graph, or the same on a device.
      images: [N, size, size, 3], any dtype.
      is_plain: whether convolutions are those of `jax.lax` on every backend; else each has its fastest form.

    Returns:
      Logits [N, K], float32.

    Raises:
      ValueError: the images are of another size.
    """
    if images.shape[1:3] != (graph.size, graph.size):
        raise ValueError(
            f'images are of {images.shape[1:3]} px, not {graph.size}: the size is part of a graph'
        )
    with float32_products() if graph.dtype == 'float32' else contextlib.nullcontext():
        return run(graph, _Jax(graph.dtype, xla_convolution if is_plain else _by_backend), images, arrays)


def as_network(graph: Graph) -> hk.TransformedWithState:
    """A graph in the form of a network, to be evaluated: its parameters are its arrays, its state is {}."""

    def apply_arrays(
        arrays: Sequence[Arrays], state: Any, key: Any, images: jax.Array, is_training: bool
    ) -> tuple[dict[str, jax.Array], Any]:
        del key, is_training
        return {'logits': apply(graph, arrays, images)}, state

    return hk.TransformedWithState(lambda *_: (graph.arrays(), {}), apply_arrays)


class _Jax:
    """`Operations` of JAX."""

    def __init__(self, dtype: str, convolve: Callable[..., jax.Array]):
        self.dtype, self._convolve = dtype, convolve

    def enter(self, images: jax.Array, offset: Any = None) -> jax.Array:
        images = images.astype(jnp.float32)
        return (images if offset is None else images + _last(offset)).astype(self.dtype)

    def leave(self, x: jax.Array) -> jax.Array:
        return x[:, 0, 0, :].astype(jnp.float32)

    def convolve(
        self, x: jax.Array, kernel: jax.Array, bias: jax.Array, *, stride: int, groups: int, padding: Padding
    ) -> jax.Array:
        return self._convolve(x, kernel, stride, groups, padding) + _last(bias)

    def activate(self, x: jax.Array, *, name: str) -> jax.Array:
        return ACTIVATIONS[name](x)

    def pool(self, x: jax.Array, *, kind: str, window: int, stride: int, padding: Padding) -> jax.Array:
        sides = (1, window, window, 1), (1, stride, stride, 1), ((0, 0), *padding, (0, 0))
        if kind == 'max':
            return jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, *sides)
        counts = jax.lax.reduce_window(jnp.ones((1, *x.shape[1:3], 1), x.dtype), 0.0, jax.lax.add, *sides)
        return jax.lax.reduce_window(x, 0.0, jax.lax.add, *sides) / counts

    def mean(self, x: jax.Array) -> jax.Array:
        return jnp.mean(x, axis=(1, 2), keepdims=True)

    def affine(self, x: jax.Array, scale: jax.Array, shift: jax.Array) -> jax.Array:
        return x * _last(scale) + _last(shift)

    def multiply(self, a: jax.Array, b: jax.Array) -> jax.Array:
        return a * b

    def add(self, a: jax.Array, b: jax.Array) -> jax.Array:
        return a + b


def _last(x: Any) -> jax.Array:
    """[] or [C] as [1, 1, 1, C]."""
    return jnp.asarray(x).reshape(1, 1, 1, -1)


def _by_backend(x: jax.Array, kernel: jax.Array, stride: int, groups: int, padding: Padding) -> jax.Array:
    return convolve(x, kernel, stride=stride, groups=groups, padding=padding)
