"""The memory of a device: how much there is, and what a compiled program takes by XLA's own account."""

import os
from typing import NamedTuple

import jax
from jax.stages import Compiled


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
    """Of a program on the devices that it was compiled for; it need not have run."""
    told = compiled.memory_analysis()
    assert told is not None
    results = told.output_size_in_bytes - told.alias_size_in_bytes
    peak = told.argument_size_in_bytes + told.temp_size_in_bytes + results + told.generated_code_size_in_bytes
    return Memory(told.argument_size_in_bytes, told.temp_size_in_bytes, peak)


def of_device() -> int:
    """Bytes of memory that each device here has; of a CPU, which counts as several devices, its share."""
    told = jax.local_devices()[0].memory_stats() or {}
    whole = os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES')
    return told.get('bytes_limit', whole // jax.local_device_count())
