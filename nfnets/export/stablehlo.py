"""StableHLO as `jax.export` serializes it: one file for CPUs, CUDA and TPUs, with the weights inside."""

import json
from pathlib import Path
from typing import Any

import jax
import jax.export
import numpy as np

from nfnets.errors import InputError
from nfnets.folding.graph import MOST_BYTES, Graph
from nfnets.folding.run import apply

_PLATFORMS = ('cpu', 'cuda', 'tpu')


def write(path: Path, graph: Graph, images: np.dtype, metadata: dict[str, Any], beside: Path) -> None:
    """Writes a graph for any number of images of a dtype; its metadata go to a file beside it.

    Raises:
      InputError: it has more weights than the form can hold.
    """
    if graph.num_bytes > MOST_BYTES:
        raise InputError(
            f'{path.name}: its weights have {graph.num_bytes / 2**30:.1f} GiB, and StableHLO holds 2: give '
            'another --precision, or write a SavedModel or ONNX'
        )
    [count] = jax.export.symbolic_shape('N')
    shape = jax.ShapeDtypeStruct((count, graph.size, graph.size, 3), images)
    network = jax.jit(lambda images: apply(graph, graph.arrays(), images, is_plain=True))
    exported = jax.export.export(network, platforms=_PLATFORMS)(shape)
    path.write_bytes(exported.serialize())
    beside.write_text(json.dumps(metadata, indent=1))


def run(path: Path, images: np.ndarray) -> np.ndarray:
    """The logits that the file gives."""
    exported = jax.export.deserialize(bytearray(path.read_bytes()))
    return np.asarray(exported.call(images))
