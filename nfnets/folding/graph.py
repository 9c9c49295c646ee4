"""A network as a short list of plain operations, to be run by any library that has them."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import ml_dtypes
import numpy as np

from nfnets.errors import InputError

Padding = tuple[tuple[int, int], tuple[int, int]]  # Px above and below, left and right.
Arrays = Mapping[str, Any]
MOST_BYTES = 2**31 - 2**20  # Of the arrays in a protocol buffer, with room for the rest.
_DTYPES: dict[str, Any] = {'float32': np.float32, 'bfloat16': ml_dtypes.bfloat16, 'float16': np.float16}


@dataclasses.dataclass(frozen=True)
class Node:
    """One operation.

    Attributes:
      op: the name of a method of `Operations`.
      inputs: indices of the values it takes; 0 is the images, k the output of the k-th node.
      settings: keyword arguments that are no arrays.
      arrays: keyword arguments that are, float32 unless `Graph.astype` rounded them.
    """

    op: str
    inputs: tuple[int, ...]
    settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    arrays: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)


class Operations(Protocol):
    """What a library needs to have; a value is an array [N, H, W, C], pooled ones are [N, 1, 1, C]."""

    def enter(self, images: Any, offset: Any = None) -> Any:
        """Images [N, H, W, 3] of any type, plus [3] in float32, then in the precision of the graph."""

    def leave(self, x: Any) -> Any:
        """[N, 1, 1, C] -> [N, C] in float32."""

    def convolve(self, x: Any, kernel: Any, bias: Any, *, stride: int, groups: int, padding: Padding) -> Any:
        """Convolves with a kernel [h, w, I / groups, O] and adds the bias [O]."""

    def activate(self, x: Any, *, name: str) -> Any:
        """Applies one of `folding.steps.ACTIVATIONS`."""

    def pool(self, x: Any, *, kind: str, window: int, stride: int, padding: Padding) -> Any:
        """The 'average', padding not counted, or the 'max' over square windows."""

    def mean(self, x: Any) -> Any:
        """[N, H, W, C] -> [N, 1, 1, C]."""

    def affine(self, x: Any, scale: Any, shift: Any) -> Any:
        """scale * x + shift, each [C]."""

    def multiply(self, a: Any, b: Any) -> Any:
        """The product, [N, 1, 1, C] with [N, H, W, C] allowed."""

    def add(self, a: Any, b: Any) -> Any:
        """The sum."""


@dataclasses.dataclass(frozen=True)
class Graph:
    """A network for images of one size, from images to logits.

    Attributes:
      size: height and width of the images, px.
      nodes: in the order in which they run; the last gives the logits [N, 1, 1, K].
      offset: [3], what is added to the images first; None: nothing.
      dtype: of the arrays and of all that is computed, but for images plus offset, which are float32.
    """

    size: int
    nodes: Sequence[Node]
    offset: np.ndarray | None = None
    dtype: str = 'float32'

    def arrays(self) -> tuple[Arrays, ...]:
        """The arrays of every node, to be given to `run`."""
        return tuple(node.arrays for node in self.nodes)

    @property
    def num_bytes(self) -> int:
        """Size of all arrays, bytes."""
        return sum(x.nbytes for arrays in self.arrays() for x in arrays.values())

    def astype(self, dtype: str) -> 'Graph':
        """The graph with its arrays rounded to 'float32', 'bfloat16' or 'float16'.

        Raises:
          InputError: a number is too large for the dtype.
        """
        nodes = [dataclasses.replace(node, arrays=_rounded(node.arrays, dtype)) for node in self.nodes]
        return dataclasses.replace(self, nodes=nodes, dtype=dtype)


def _rounded(arrays: Mapping[str, np.ndarray], dtype: str) -> dict[str, np.ndarray]:
    with np.errstate(over='ignore'):
        rounded = {name: x.astype(_DTYPES[dtype]) for name, x in arrays.items()}
    for name, x in rounded.items():
        if not np.all(np.isfinite(x)):
            largest = np.max(np.abs(arrays[name]))
            raise InputError(f'{dtype} cannot hold a {name} of up to {largest:.3g} in the folded network')
    return rounded
