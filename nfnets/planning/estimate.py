"""The time of a training step as XLA's TPU compiler estimates it, for TPUs that need not be here."""

import importlib.metadata
import time
from typing import Any

import jax
from ml_collections import FrozenConfigDict

from nfnets import build
from nfnets.errors import InputError
from nfnets.models.cost import multiply_adds
from nfnets.planning.account import account
from nfnets.planning.compiler import EFFORTS, TooLarge, compile_program, keep_answer, tpu_devices
from nfnets.planning.memory import memory_of
from nfnets.planning.tpus import Device


def estimate_step(config: FrozenConfigDict, device: Device, effort: str) -> dict[str, Any]:
    """Compiles the training step for one host of a kind of TPU; answers are kept on disk.

    Args:
      config: complete for as many devices as the host has.
      device: of the host.
      effort: 'default', or 'least', which compiles sooner a slower program.

    Returns:
      A JSON object: `estimated_cycles`, `estimated_ms` and `bytes_accessed` of a step whose norms are not
      logged, loops times their trip counts; `parts`, which add up to these; `not_placed`, the largest of what
      belongs to no part; `logged_cycles`, what a logged step takes besides; `flops` of convolutions and
      matrix products; `share_of_peak`; `memory_gib`; `compile_seconds` when it was compiled; `compiler`.

    Raises:
      InputError: there is no TPU compiler here, or the step does not fit into a device's memory.
    """
    devices = tpu_devices(device)
    if devices is None:
        raise InputError("there is no TPU compiler here: pip install 'nfnets[tpu]'")
    lowered = build.lower_train_step(config, devices)
    compiler = f'XLA for TPU {device.name} {importlib.metadata.version("libtpu")}, {effort} effort'
    program = lowered.as_text(debug_info=True)  # With the names that parts are known by.

    def estimate() -> dict[str, Any]:
        answer = {'compiler': compiler, **_work(config, devices), **_compile(lowered, device, effort)}
        share = answer['flops'] / (answer['estimated_ms'] * 1e9 * device.teraflops)
        return {**answer, 'share_of_peak': share}

    return keep_answer('estimates', compiler + program, estimate)


def _compile(lowered: jax.stages.Lowered, device: Device, effort: str) -> dict[str, Any]:
    start = time.perf_counter()
    try:
        compiled = compile_program(lowered, EFFORTS[effort])
    except TooLarge as error:
        needed = f', it needs {error.gib} GiB' if error.gib else ''
        there = f'{device.memory_gib:g} GiB of memory of a device of {device.name}'
        raise InputError(f'the step does not fit into the {there}{needed}: take fewer images') from error
    seconds = time.perf_counter() - start
    found = account(compiled.as_text() or '')
    return {
        'estimated_cycles': found.total.cycles,
        'estimated_ms': found.total.cycles / device.clock_mhz / 1e3,
        'bytes_accessed': found.total.bytes,
        'logged_cycles': found.reported.cycles,
        'memory_gib': memory_of(compiled).peak / 2**30,
        'compile_seconds': seconds,
        'parts': {name: part._asdict() for name, part in found.parts.items()},
        'not_placed': found.not_placed,
    }


def _work(config: FrozenConfigDict, devices: Any) -> dict[str, int]:
    """Floating-point operations of convolutions and products in a step on one device."""
    step = build.train_step(config, devices)
    program = jax.make_jaxpr(step)(*build.step_arguments(config, devices))
    return {'flops': 2 * multiply_adds(program.jaxpr)}
