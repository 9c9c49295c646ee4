"""Writes a graph down while scales and shifts are carried along, until a convolution takes them up.

A value is scale * node + shift. Nothing is done for a product or sum with constants but to change these. A
convolution takes the scale of its input into its kernel, and the shift into its bias where it is exact: not
where it pads, as the zeros at the border are not shifted. What a convolution gives is scaled within it.
"""

import dataclasses
from typing import Any, NamedTuple

import numpy as np

from nfnets.folding.graph import Node, Padding

_NO_PADDING: Padding = ((0, 0), (0, 0))
_NOTHING = 1e-12  # Of a branch so scaled, float32 does not keep a trace beside the rest.


class Value(NamedTuple):
    """scale * node + shift.

    Attributes:
      node: index of a value of the graph.
      scale: [] or [C], float64.
      shift: [] or [C], float64.
      is_sole: whether the node is a convolution that nothing else uses.
    """

    node: int
    scale: np.ndarray = np.ones(())
    shift: np.ndarray = np.zeros(())
    is_sole: bool = False

    def times(self, factor: np.ndarray) -> 'Value':
        """The value times [] or [C]."""
        return self._replace(scale=self.scale * factor, shift=self.shift * factor)

    def plus(self, shift: np.ndarray) -> 'Value':
        """The value plus [] or [C]."""
        return self._replace(shift=self.shift + shift)


class Builder:
    """A graph that grows.

    Attributes:
      nodes: so far, counted from 1; 0 is the images.
    """

    def __init__(self) -> None:
        """Creates an empty one."""
        self.nodes: list[Node] = []

    def convolve(
        self, x: Value, kernel: np.ndarray, stride: int = 1, groups: int = 1, padding: Padding = _NO_PADDING
    ) -> Value:
        """Convolves with a kernel [h, w, I / groups, O]."""
        kernel = kernel.astype(np.float64)
        if np.any(x.shift) and padding != _NO_PADDING:
            x = self._shifted(x)
        scale, shift = (_over_kernel(c, kernel.shape, groups) for c in (x.scale, x.shift))
        bias = np.sum(kernel * shift, axis=(0, 1, 2))
        arrays = {'kernel': _single(kernel * scale), 'bias': _single(bias)}
        settings = {'stride': stride, 'groups': groups, 'padding': padding}
        return Value(self._append('convolve', (x.node,), settings, arrays), is_sole=True)

    def settled(self, x: Value) -> Value:
        """The value, to be used several times."""
        return Value(self.node(x)) if x.is_sole else x

    def activate(self, x: Value, name: str) -> Value:
        """Applies an activation."""
        return Value(self._append('activate', (self.node(x),), {'name': name}))

    def max_pool(self, x: Value, window: int, stride: int, padding: Padding) -> Value:
        """Takes the largest of each window."""
        settings = {'kind': 'max', 'window': window, 'stride': stride, 'padding': padding}
        return Value(self._append('pool', (self.node(x),), settings))

    def average_pool(self, x: Value, window: int, stride: int, padding: Padding) -> Value:
        """Takes the mean of each window."""
        settings = {'kind': 'average', 'window': window, 'stride': stride, 'padding': padding}
        return x._replace(node=self._append('pool', (x.node,), settings), is_sole=False)

    def mean(self, x: Value) -> Value:
        """Takes the mean of each channel."""
        return x._replace(node=self._append('mean', (x.node,)), is_sole=False)

    def multiply(self, a: Value, b: Value) -> Value:
        """Multiplies two values."""
        a, b = (Value(self.node(x)) if np.any(x.shift) else x for x in (a, b))
        return Value(self._append('multiply', (a.node, b.node)), a.scale * b.scale)

    def add(self, a: Value, b: Value) -> Value:
        """Adds two values."""
        if b.is_sole:
            a, b = b, a
        if a.is_sole:  # It takes the other's shift as well.
            a, b = a.plus(b.shift), b._replace(shift=np.zeros(()))
        return Value(self._append('add', (self.node(a), self.node(b))))

    def node(self, x: Value) -> int:
        """The index of a node that gives the value itself."""
        if np.all(x.scale == 1) and not np.any(x.shift):
            return x.node
        if x.is_sole:
            self._scale_output(x.node, x.scale, x.shift)
            return x.node
        arrays = {'scale': _single(x.scale), 'shift': _single(x.shift)}
        return self._append('affine', (x.node,), arrays=arrays)

    def finish(self, x: Value) -> list[Node]:
        """The nodes; the last gives the value."""
        self.node(x)
        for index, node in enumerate(self.nodes, 1):
            if node.op == 'affine' and not np.any(node.arrays['shift']):
                self._scale_within(index, node)
        kept = [0, *(i for i, node in enumerate(self.nodes, 1) if node.op != 'nothing')]
        where = {old: new for new, old in enumerate(kept)}
        nodes = [self.nodes[i - 1] for i in kept[1:]]
        return [dataclasses.replace(node, inputs=tuple(where[i] for i in node.inputs)) for node in nodes]

    def _shifted(self, x: Value) -> Value:
        """The same value without a shift."""
        if x.is_sole or not np.all(x.scale):
            return Value(self.node(x))
        return Value(self.node(Value(x.node, shift=x.shift / x.scale)), x.scale)

    def _scale_within(self, index: int, node: Node) -> None:
        """Scales a product with the attention of squeeze-excite within the convolution before it.

        The attention is a function of the means of what that gives: its own first layer undoes the scale.
        """
        [product] = node.inputs
        factors = self.nodes[product - 1].inputs if self.nodes[product - 1].op == 'multiply' else ()
        x = next((i for i in factors if i and self.nodes[i - 1].op == 'convolve'), None)
        if x is None or self._users(product) != [index]:
            return
        means = [i for i in self._users(x) if i != product]
        readers = [i for mean in means for i in self._users(mean)]
        if any(self.nodes[i - 1].op != 'mean' for i in means) or any(
            self.nodes[i - 1].op != 'convolve' for i in readers
        ):
            return
        scale = node.arrays['scale'].astype(np.float64)
        is_nothing = np.abs(scale) < _NOTHING
        if np.any(is_nothing) and scale.ndim:
            return  # Other channels' attention would change.
        self._scale_output(x, np.where(is_nothing, 0.0, scale), np.zeros(()))
        for reader in readers:
            self._scale_input(reader, 1 / np.where(is_nothing, 1.0, scale))
        self.nodes[index - 1] = Node('nothing', ())
        for k, other in enumerate(self.nodes):
            inputs = tuple(product if i == index else i for i in other.inputs)
            self.nodes[k] = dataclasses.replace(other, inputs=inputs)

    def _users(self, index: int) -> list[int]:
        return [k for k, node in enumerate(self.nodes, 1) if index in node.inputs]

    def _scale_output(self, index: int, scale: np.ndarray, shift: np.ndarray) -> None:
        kernel, bias = (self.nodes[index - 1].arrays[name] * scale for name in ('kernel', 'bias'))
        self._set_arrays(index, {'kernel': _single(kernel), 'bias': _single(bias + shift)})

    def _scale_input(self, index: int, scale: np.ndarray) -> None:
        node = self.nodes[index - 1]
        kernel = node.arrays['kernel']
        scaled = kernel * _over_kernel(scale, kernel.shape, node.settings['groups'])
        self._set_arrays(index, {**node.arrays, 'kernel': _single(scaled)})

    def _set_arrays(self, index: int, arrays: dict[str, np.ndarray]) -> None:
        self.nodes[index - 1] = dataclasses.replace(self.nodes[index - 1], arrays=arrays)

    def _append(
        self,
        op: str,
        inputs: tuple[int, ...],
        settings: dict[str, Any] | None = None,
        arrays: dict[str, np.ndarray] | None = None,
    ) -> int:
        self.nodes.append(Node(op, inputs, settings or {}, arrays or {}))
        return len(self.nodes)


def _single(x: np.ndarray) -> np.ndarray:
    return np.asarray(x, np.float32)


def _over_kernel(by_channel: np.ndarray, shape: tuple[int, ...], groups: int) -> np.ndarray:
    """[] or [I], of the input's channels, as [I / groups, O] of a kernel [h, w, I / groups, O]."""
    inputs, outputs = shape[2:]
    by_group = np.broadcast_to(by_channel, inputs * groups).reshape(groups, inputs)
    return np.repeat(by_group.T, outputs // groups, axis=1)
