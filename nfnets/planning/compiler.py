"""The memory and the time of a program on a TPU that is not here, by XLA's compiler.

XLA's TPU compiler comes with libtpu (`pip install 'nfnets[tpu]'`, Linux on x86-64) and needs no TPU: it gives
the answer that it will give there. Without libtpu XLA's CPU compiler answers, and overestimates: it keeps
much of bfloat16 as float32, and joins fewer operations.
"""

import contextlib
import hashlib
import importlib.metadata
import importlib.util
import json
import os
import re
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
from jax.experimental import topologies

from nfnets import host
from nfnets.files import replace_file
from nfnets.planning.account import account
from nfnets.planning.memory import memory_of
from nfnets.planning.tpus import Device

_LIBTPU = {
    'ALLOW_MULTIPLE_LIBTPU_LOAD': 'true',  # It takes no TPU, so another process may have one.
    'TPU_SKIP_MDS_QUERY': 'true',  # Nor does it ask the cloud which machine this is:
    'TPU_ACCELERATOR_TYPE': 'v4-8',
    'TPU_WORKER_HOSTNAMES': 'localhost',
}
# Options of the TPU compiler. With the least effort it skips what it does for speed, which takes the most
# time and memory here, and hardly changes the memory there (`docs/performance.md`).
EFFORTS: dict[str, dict[str, Any]] = {'default': {}, 'least': {'exec_time_optimization_effort': -1.0}}
_TOO_LARGE = re.compile(r'(?:HLO temporaries \(|Used |Hbm usage: )([\d.]+)G')


class Answer(NamedTuple):
    """A compiler's answer about a program.

    Attributes:
      compiler: which one.
      fits: whether it compiled, which XLA's TPU compiler does only if the program fits; None if unknown.
      gib: memory of a device that the program takes, GiB; if it does not fit, at least; None if not known.
      cycles: of a training step, as the TPU compiler estimates them; None if it gives no estimate.
    """

    compiler: str
    fits: bool | None
    gib: float | None
    cycles: int | None


def tpu_devices(device: Device) -> Sequence[jax.Device] | None:
    """One host's devices to lower a program for, though there are none; None without libtpu."""
    if importlib.util.find_spec('libtpu') is None:
        return None
    for name, value in _LIBTPU.items():
        os.environ.setdefault(name, value)
    described = topologies.get_topology_desc(device.topology, 'tpu', chip_config_name=device.chip_config)
    return described.devices


def keep_answer(kind: str, question: str, find: Callable[[], Any]) -> Any:
    """The answer to a question, found once and then kept on disk as JSON.

    Args:
      kind: of answer, the name of their folder.
      question: all that the answer depends on.
      find: finds it.
    """
    digest = hashlib.sha256(question.encode()).hexdigest()
    kept = host.cache_directory() / kind / f'{digest[:32]}.json'
    if kept.is_file():
        return json.loads(kept.read_text())
    answer = find()
    with contextlib.suppress(OSError):  # The answer stands, kept or not.
        kept.parent.mkdir(parents=True, exist_ok=True)
        replace_file(kept, json.dumps(answer))
    return answer


def ask(lowered: jax.stages.Lowered, device: Device, *, for_tpu: bool) -> Answer:
    """Memory and cycles of a lowered program on one device. It can take minutes; answers are kept on disk.

    Args:
      lowered: for the devices that `tpu_devices` gave, or for a CPU.
      device: that it is meant for.
      for_tpu: which of the two.
    """
    version = importlib.metadata.version('libtpu' if for_tpu else 'jaxlib')
    compiler = f'XLA for {"TPU " + device.name if for_tpu else "CPU"} {version}'
    fits, gib, cycles = keep_answer('plans', compiler + lowered.as_text(), lambda: _compile(lowered, for_tpu))
    if not for_tpu:
        # It overestimates: what fits by it fits, what does not may.
        fits = True if gib <= device.memory_gib else None
    return Answer(compiler, fits, gib, cycles)


class TooLarge(Exception):
    """A program does not fit into the memory of a device.

    Attributes:
      gib: memory that it needs at least; None if the compiler does not say.
    """

    def __init__(self, message: str):
        super().__init__(message)
        needed = _TOO_LARGE.search(message)
        self.gib = float(needed[1]) if needed else None


def compile_program(lowered: jax.stages.Lowered, options: dict[str, Any] | None) -> jax.stages.Compiled:
    """Compiles a program with options such as those of `EFFORTS`.

    Raises:
      TooLarge: the TPU compiler refuses it.
    """
    try:
        return lowered.compile(options)
    except jax.errors.JaxRuntimeError as error:
        if not re.search('RESOURCE_EXHAUSTED.*hbm', str(error), re.IGNORECASE):
            raise
        raise TooLarge(str(error)) from error


def _compile(lowered: jax.stages.Lowered, for_tpu: bool) -> tuple[bool, float | None, int | None]:
    try:
        compiled = compile_program(lowered, EFFORTS['least'] if for_tpu else None)
    except TooLarge as error:
        return False, error.gib, None
    cycles = account(compiled.as_text() or '').total.cycles if for_tpu else None
    return True, memory_of(compiled).peak / 2**30, cycles
