"""A SavedModel of TensorFlow's own operations, so that all that reads SavedModels reads it."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from nfnets.data.tensorflow import tf
from nfnets.folding.graph import Graph, Padding
from nfnets.folding.run import run as run_graph

_ACTIVATIONS = {
    'gelu_tanh': lambda x: tf.nn.gelu(x, approximate=True),
    'gelu': lambda x: tf.nn.gelu(x, approximate=False),
    'silu': tf.nn.silu,
    'relu': tf.nn.relu,
    'sigmoid': tf.sigmoid,
}


def write(path: Path, graph: Graph, images: np.dtype, metadata: dict[str, Any]) -> None:
    """Writes a graph for any number of images of a dtype, with its metadata among the extra assets."""
    module = tf.Module()
    module.arrays = [{name: tf.Variable(x) for name, x in arrays.items()} for arrays in graph.arrays()]
    shape = tf.TensorSpec((None, graph.size, graph.size, 3), tf.as_dtype(images), 'images')

    @tf.function(input_signature=[shape])
    def call(images: tf.Tensor) -> dict[str, tf.Tensor]:
        return {'logits': run_graph(graph, _TensorFlow(graph.dtype), images, module.arrays)}

    module.__call__ = call

    @tf.function(input_signature=[])
    def class_names() -> tf.Tensor:
        return tf.constant(metadata['class_names'])

    module.class_names = class_names
    tf.saved_model.save(module, str(path), signatures={'serving_default': call})
    assets = path / 'assets.extra'  # The place that TensorFlow leaves to others.
    assets.mkdir()
    (assets / 'nfnets.json').write_text(json.dumps(metadata, indent=1))


def run(path: Path, images: np.ndarray) -> np.ndarray:
    """The logits that the model gives."""
    return tf.saved_model.load(str(path))(images)['logits'].numpy()


class _TensorFlow:
    """`Operations` of TensorFlow."""

    def __init__(self, dtype: str):
        self.dtype = dtype

    def enter(self, images: Any, offset: Any = None) -> tf.Tensor:
        images = tf.cast(images, tf.float32)
        return tf.cast(images if offset is None else images + offset, self.dtype)

    def leave(self, x: tf.Tensor) -> tf.Tensor:
        return tf.cast(x[:, 0, 0, :], tf.float32)

    def convolve(
        self, x: tf.Tensor, kernel: Any, bias: Any, *, stride: int, groups: int, padding: Padding
    ) -> tf.Tensor:
        return tf.nn.conv2d(x, kernel, stride, [(0, 0), *padding, (0, 0)]) + bias

    def activate(self, x: tf.Tensor, *, name: str) -> tf.Tensor:
        return _ACTIVATIONS[name](x)

    def pool(self, x: tf.Tensor, *, kind: str, window: int, stride: int, padding: Padding) -> tf.Tensor:
        if kind == 'max':
            return tf.nn.max_pool2d(x, window, stride, [(0, 0), *padding, (0, 0)])
        # Its average takes no padding in numbers. The padding here is SAME, or none.
        return tf.nn.avg_pool2d(x, window, stride, 'SAME' if any(map(any, padding)) else 'VALID')

    def mean(self, x: tf.Tensor) -> tf.Tensor:
        mean = tf.reduce_mean(tf.cast(x, tf.float32), axis=(1, 2), keepdims=True)
        return tf.cast(mean, x.dtype)

    def affine(self, x: tf.Tensor, scale: Any, shift: Any) -> tf.Tensor:
        return x * scale + shift

    def multiply(self, a: tf.Tensor, b: tf.Tensor) -> tf.Tensor:
        return a * b

    def add(self, a: tf.Tensor, b: tf.Tensor) -> tf.Tensor:
        return a + b
