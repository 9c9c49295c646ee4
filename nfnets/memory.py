"""What a compiled program takes of a device's memory, by XLA's own account."""

from typing import NamedTuple

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
