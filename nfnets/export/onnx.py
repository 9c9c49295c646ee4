"""ONNX of opset 20, which has GELU as one node."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.helper as make
import onnxruntime

from nfnets.folding.graph import MOST_BYTES, Graph, Padding
from nfnets.folding.run import run as run_graph
from nfnets.weights.load import METADATA_KEY

_OPSET = 20
_IR_VERSION = 9  # Of that opset: older runtimes read it, too.
_ACTIVATIONS: dict[str, tuple[str, dict[str, Any]]] = {
    'gelu_tanh': ('Gelu', {'approximate': 'tanh'}),
    'gelu': ('Gelu', {}),
    'relu': ('Relu', {}),
    'sigmoid': ('Sigmoid', {}),
}


def write(path: Path, graph: Graph, images: np.dtype, metadata: dict[str, Any], beside: Path) -> None:
    """Writes a graph for any number of images of a dtype, with metadata; too many weights go beside it."""
    operations = _Onnx(graph.dtype, images)
    logits = run_graph(graph, operations, 'images')
    kind = make.np_dtype_to_tensor_dtype(images)
    [classes] = graph.nodes[-1].arrays['bias'].shape
    content = make.make_graph(
        operations.nodes,
        'network',
        [make.make_tensor_value_info('images', kind, ['N', graph.size, graph.size, 3])],
        [make.make_tensor_value_info(logits, onnx.TensorProto.FLOAT, ['N', classes])],
        operations.initializers,
    )
    model = make.make_model(
        content, opset_imports=[make.make_opsetid('', _OPSET)], ir_version=_IR_VERSION, producer_name='nfnets'
    )
    make.set_model_props(model, {METADATA_KEY: json.dumps(metadata)})
    is_large = graph.num_bytes > MOST_BYTES
    onnx.save(model, path, save_as_external_data=is_large, location=beside.name if is_large else None)


def run(path: Path, images: np.ndarray) -> np.ndarray:
    """The logits that onnxruntime gives, on the CPU."""
    session = onnxruntime.InferenceSession(path, providers=['CPUExecutionProvider'])
    return session.run(None, {'images': images})[0]


class _Onnx:
    """`Operations` that write nodes; a value is the name of one, and channels come first."""

    def __init__(self, dtype: str, images: np.dtype):
        self.dtype, self._images = np.dtype(dtype), images
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []

    def enter(self, images: str, offset: Any = None) -> str:
        x = images if self._images == np.float32 else self._cast(images, np.float32)
        x = x if offset is None else self._node('Add', [x, self._constant(offset)])
        x = x if self.dtype == np.float32 else self._cast(x, self.dtype)
        return self._node('Transpose', [x], perm=[0, 3, 1, 2])

    def leave(self, x: str) -> str:
        x = self._node('Flatten', [x], name='logits' if self.dtype == np.float32 else None)
        return x if self.dtype == np.float32 else self._cast(x, np.float32, name='logits')

    def convolve(
        self, x: str, kernel: np.ndarray, bias: np.ndarray, *, stride: int, groups: int, padding: Padding
    ) -> str:
        inputs = [x, self._constant(kernel.transpose(3, 2, 0, 1)), self._constant(bias)]
        return self._node('Conv', inputs, group=groups, **_window(kernel.shape[0], stride, padding))

    def activate(self, x: str, *, name: str) -> str:
        if name == 'silu':  # No node of its own in this opset.
            return self._node('Mul', [x, self._node('Sigmoid', [x])])
        op, settings = _ACTIVATIONS[name]
        return self._node(op, [x], **settings)

    def pool(self, x: str, *, kind: str, window: int, stride: int, padding: Padding) -> str:
        op = {'average': 'AveragePool', 'max': 'MaxPool'}[kind]
        return self._node(op, [x], **_window(window, stride, padding))

    def mean(self, x: str) -> str:
        return self._node('GlobalAveragePool', [x])

    def affine(self, x: str, scale: np.ndarray, shift: np.ndarray) -> str:
        x = x if np.all(scale == 1) else self._node('Mul', [x, self._by_channel(scale)])
        return x if np.all(shift == 0) else self._node('Add', [x, self._by_channel(shift)])

    def multiply(self, a: str, b: str) -> str:
        return self._node('Mul', [a, b])

    def add(self, a: str, b: str) -> str:
        return self._node('Add', [a, b])

    def _cast(self, x: str, dtype: Any, name: str | None = None) -> str:
        return self._node('Cast', [x], name, to=make.np_dtype_to_tensor_dtype(np.dtype(dtype)))

    def _by_channel(self, array: np.ndarray) -> str:
        return self._constant(array.reshape(1, -1, 1, 1))

    def _constant(self, array: np.ndarray) -> str:
        name = f'constant_{len(self.initializers)}'
        self.initializers.append(onnx.numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def _node(self, op: str, inputs: Sequence[str], name: str | None = None, **settings: Any) -> str:
        name = name or f'{op.lower()}_{len(self.nodes)}'
        self.nodes.append(make.make_node(op, inputs, [name], name, **settings))
        return name


def _window(size: int, stride: int, padding: Padding) -> dict[str, Any]:
    (top, bottom), (left, right) = padding
    return {'kernel_shape': [size] * 2, 'strides': [stride] * 2, 'pads': [top, left, bottom, right]}
