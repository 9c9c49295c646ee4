"""The memory of a device: how much there is, and what a compiled program takes by XLA's own account."""

import math
import os
from typing import Any, NamedTuple

import jax
from jax.stages import Compiled

from nfnets import parallel


class Memory(NamedTuple):
    """Bytes on one device.

    Attributes:
      arguments: what it is given: of a training step the state of the run and the batch.
      temporaries: what lives only while it runs: activations, gradients.
      peak: both, with results that do not take the place of an argument, and the program itself.
    """

    arguments: int
    temporaries: int
    peak: int


def memory_of(compiled: Compiled) -> Memory:
    """The memory of a compiled program on each device, bytes; it need not have run."""
    stats = compiled.memory_analysis()
    assert stats is not None
    results = stats.output_size_in_bytes - stats.alias_size_in_bytes
    arguments, temporaries = stats.argument_size_in_bytes, stats.temp_size_in_bytes
    peak = arguments + temporaries + results + stats.generated_code_size_in_bytes
    return Memory(arguments, temporaries, peak)


def row_bytes(shapes: Any, devices: int) -> int:
    """Bytes of a device that has its own rows alone of each array of a tree (`parallel.own_rows`)."""

    def of_each(x: jax.ShapeDtypeStruct) -> int:
        rows, per_device = parallel.rows_of(x.shape, devices)
        size = math.prod(x.shape) if rows is None else math.prod(x.shape) // rows * per_device
        return size * x.dtype.itemsize

    return sum(map(of_each, jax.tree.leaves(shapes)))


def device_bytes() -> int:
    """Bytes of memory of each device here; of a CPU, which counts as several devices, an equal part."""
    stats = jax.local_devices()[0].memory_stats() or {}
    whole = os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES')
    return stats.get('bytes_limit', whole // jax.local_device_count())
