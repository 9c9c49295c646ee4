"""StableHLO as `jax.export` serializes it: one file for CPUs, CUDA and TPUs, with the weights inside."""

from pathlib import Path

import jax
import numpy as np

from nfnets.folding.graph import Graph
from nfnets.folding.run import apply

PLATFORMS = ('cpu', 'cuda', 'tpu')


def write(path: Path, graph: Graph, images: np.dtype) -> None:
    """Writes a graph for any number of images of a dtype."""
    [count] = jax.export.symbolic_shape('N')
    shape = jax.ShapeDtypeStruct((count, graph.size, graph.size, 3), images)
    network = jax.jit(lambda images: apply(graph, graph.arrays(), images, is_plain=True))
    exported = jax.export.export(network, platforms=PLATFORMS)(shape)
    path.write_bytes(exported.serialize())


def run(path: Path, images: np.ndarray) -> np.ndarray:
    """The logits that the file gives."""
    exported = jax.export.deserialize(bytearray(path.read_bytes()))
    return np.asarray(exported.call(images))
