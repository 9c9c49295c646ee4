"""Folds a network into a graph of plain operations, whichever network it is."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np

from nfnets.data.augment import MEAN, STD
from nfnets.errors import InputError
from nfnets.folding.algebra import Builder, Value
from nfnets.folding.graph import Graph, Padding
from nfnets.folding.steps import ACTIVATIONS, Step, Variable, trace
from nfnets.models.convolution import MANY

_SPATIAL = (1, 2)


def fold(
    network: hk.TransformedWithState, variables: tuple[Any, Any], size: int, *, from_pixels: bool
) -> Graph:
    """Folds a network with its parameters, for images of one size.

    Weights are standardized; gains, the scales of activations and branches, and batch normalization that
    follows a convolution are in the kernels and biases. The network is traced in float32 and not changed.

    Args:
      network: from `make_network`.
      variables: its parameters, unstacked, and its state.
      size: height and width of the images, px.
      from_pixels: whether the graph takes pixels 0..255 instead of normalized images.

    Raises:
      InputError: the network has an operation that is not known here.
    """

    def logits(variables: tuple[Any, Any], images: jax.Array) -> jax.Array:
        return network.apply(*variables, None, images, False)[0]['logits']

    # Nothing of this size is computed; with so many images, convolutions are in their plain form everywhere.
    images = jax.ShapeDtypeStruct((MANY, size, size, 3), jnp.float32)
    traced = trace(logits, variables, images)
    folder = _Folder()
    mean, std = 255 * np.array(MEAN), 255 * np.array(STD)
    folder.values[traced.images] = Value(0, 1 / std) if from_pixels else Value(0)
    uses = Counter(x for step in traced.steps for x in step.inputs if isinstance(x, Variable))
    for step in traced.steps:
        folder.take(step, uses[step.output])
    nodes = folder.builder.finish(folder.values[traced.output])
    return Graph(size, nodes, (-mean).astype(np.float32) if from_pixels else None)


class _Folder:
    """Hands steps to a builder; its methods are called as the primitives are."""

    def __init__(self) -> None:
        self.builder = Builder()
        self.values = dict[Variable, Value]()
        self.counts = dict[Variable, np.ndarray]()  # Pixels in each window, of sums over windows.

    def take(self, step: Step, uses: int) -> None:
        if step.name in ACTIVATIONS:
            value = self.builder.activate(self.values[step.inputs[0]], step.name)
        elif step.name in _METHODS:
            value = _METHODS[step.name](self, step)
        else:
            raise InputError(f'networks with the operation {step.name} cannot be folded')
        self.values[step.output] = self.builder.settled(value) if uses > 1 else value

    def convolve(self, step: Step) -> Value:
        x, kernel = step.inputs
        stride, groups, pads = (step.params[name] for name in ('stride', 'groups', 'pads'))
        return self.builder.convolve(self.values[x], kernel, stride, groups, _as_padding(pads))

    def linear(self, step: Step) -> Value:
        x, kernel = step.inputs
        if step.params['dimension_numbers'] != (((1,), (0,)), ((), ())):
            raise InputError('networks with such a product of matrices cannot be folded')
        return self.builder.convolve(self.values[x], kernel[None, None])

    def neighbor_sums(self, step: Step) -> Value:
        x, weights = step.inputs
        middle, channels = len(weights) // 2, x.shape[-1]
        band = sum(weights[i] * np.eye(channels, k=middle - i) for i in range(len(weights)))
        return self.builder.convolve(self.values[x], np.asarray(band)[None, None])

    def multiply(self, step: Step) -> Value:
        a, b = step.inputs
        if isinstance(a, Variable) and isinstance(b, Variable):
            return self.builder.multiply(self.values[a], self.values[b])
        x, factor = (a, b) if isinstance(a, Variable) else (b, a)
        return self.values[x].times(_by_channel(factor))

    def divide(self, step: Step) -> Value:
        x, divisor = step.inputs
        if x in self.counts and np.all(divisor == self.counts[x]):
            return self.values[x]
        return self.values[x].times(1 / _by_channel(divisor))

    def add(self, step: Step) -> Value:
        a, b = step.inputs
        if isinstance(a, Variable) and isinstance(b, Variable):
            return self.builder.add(self.values[a], self.values[b])
        x, shift = (a, b) if isinstance(a, Variable) else (b, a)
        return self.values[x].plus(_by_channel(shift))

    def subtract(self, step: Step) -> Value:
        x, shift = step.inputs
        return self.values[x].plus(-_by_channel(shift))

    def sum(self, step: Step) -> Value:
        [x] = step.inputs
        if tuple(step.params['axes']) != _SPATIAL:
            raise InputError('networks with sums over other axes than height and width cannot be folded')
        return self.builder.mean(self.values[x]).times(np.array(x.shape[1] * x.shape[2], np.float64))

    def sum_pool(self, step: Step) -> Value:
        [x] = step.inputs
        window, stride, padding = _window(step)
        self.counts[step.output] = _pixels_in_windows(x.shape[1:3], window, stride, padding)
        return self.builder.average_pool(self.values[x], window, stride, padding)

    def max_pool(self, step: Step) -> Value:
        [x] = step.inputs
        return self.builder.max_pool(self.values[x], *_window(step))

    def reshape(self, step: Step) -> Value:
        # Between [N, C] and [N, 1, 1, C], which are the same here.
        [x] = step.inputs
        if x.shape[-1] != step.output.shape[-1]:
            raise InputError('networks that reshape what they compute cannot be folded')
        return self.values[x]


_METHODS = {
    'convolve': _Folder.convolve,
    'dot_general': _Folder.linear,
    'neighbor_sums': _Folder.neighbor_sums,
    'mul': _Folder.multiply,
    'div': _Folder.divide,
    'add': _Folder.add,
    'sub': _Folder.subtract,
    'reduce_sum': _Folder.sum,
    'reduce_window_sum': _Folder.sum_pool,
    'reduce_window_max': _Folder.max_pool,
    'broadcast_in_dim': _Folder.reshape,
    'reshape': _Folder.reshape,
    'convert_element_type': _Folder.reshape,
}


def _by_channel(array: Any) -> np.ndarray:
    """A constant that does not differ from place to place, as [] or [C] in float64."""
    array = np.asarray(array, np.float64)
    rows = array.reshape(-1, array.shape[-1] if array.ndim else 1)
    if np.any(rows != rows[0]):
        raise InputError('networks with constants that differ from place to place cannot be folded')
    return rows[0, 0] if rows.shape[1] == 1 else rows[0]


def _window(step: Step) -> tuple[int, int, Padding]:
    """Side and stride of the windows of a pool, and its padding."""
    window, stride = (step.params[key][1] for key in ('window_dimensions', 'window_strides'))
    return window, stride, _as_padding(step.params['padding'][1:3])


def _as_padding(pads: Sequence[Any]) -> Padding:
    (top, bottom), (left, right) = pads
    return (int(top), int(bottom)), (int(left), int(right))


def _pixels_in_windows(sizes: Sequence[int], window: int, stride: int, padding: Padding) -> np.ndarray:
    """How many pixels each window has, without padding: [1, H, W, 1]."""
    along = []
    for size, (before, after) in zip(sizes, padding, strict=True):
        starts = np.arange(-before, size + after - window + 1, stride)
        along.append(np.minimum(starts + window, size) - np.maximum(starts, 0))
    return np.multiply.outer(*along)[None, :, :, None]
