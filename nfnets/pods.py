"""The processes of one run: how they join, and how they end together when one is asked to."""

import faulthandler
import importlib.util
import os
import signal
import threading
from typing import Any

import jax
from jax.experimental import multihost_utils

from nfnets.errors import InputError

# A process that is not heard of for so long is taken for lost, and JAX ends the others.
_LOST_AFTER_SECONDS = 30


def join(coordinator: str | None, num_processes: int | None, process_id: int | None) -> None:
    """Joins this process to the others; call it before anything is computed.

    On a TPU slice all three are known to the hosts and left out. Without either this process is alone.

    Args:
      coordinator: 'HOST:PORT' of process 0, as every process reaches it.
      num_processes: of the run.
      process_id: of this one, 0 .. num_processes - 1.

    Raises:
      InputError: some are given and some not, or they are impossible, or the others cannot be reached.
    """
    given = {'coordinator': coordinator, 'num-processes': num_processes, 'process-id': process_id}
    missing = [f'--{name}' for name, value in given.items() if value is None]
    if len(missing) == len(given):
        if _is_tpu():
            _initialize()
        return
    if missing:
        raise InputError(f'--{", --".join(given)} go together; missing: {", ".join(missing)}')
    assert coordinator is not None
    assert num_processes is not None
    assert process_id is not None
    host, _, port = coordinator.rpartition(':')
    if not host or not port.isdigit():
        raise InputError(f'--coordinator={coordinator} must be HOST:PORT of process 0')
    if not 0 <= process_id < num_processes:
        raise InputError(f'--process-id={process_id} must be from 0 to below --num-processes={num_processes}')
    _initialize(coordinator, num_processes, process_id)


def _initialize(
    coordinator: str | None = None, num_processes: int | None = None, process_id: int | None = None
) -> None:
    jax.distributed.initialize(
        coordinator, num_processes, process_id, heartbeat_timeout_seconds=_LOST_AFTER_SECONDS
    )
    # JAX's message about a lost process would drown in the stacks of this one's threads.
    faulthandler.disable()


def _is_tpu() -> bool:
    # Without asking JAX, which would start it.
    platforms = os.environ.get('JAX_PLATFORMS', 'tpu')
    return 'tpu' in platforms and importlib.util.find_spec('libtpu') is not None


class Preemption:
    """Notices that this process, or any other of the run, is asked to end: by SIGTERM, as clouds do."""

    def __init__(self) -> None:
        self._is_asked = False
        # With several processes JAX takes the signal, and makes them agree on a step.
        self._is_joined = jax.distributed.is_initialized()
        self._previous: Any = None
        if not self._is_joined and threading.current_thread() is threading.main_thread():
            self._previous = signal.signal(signal.SIGTERM, self._ask)

    def _ask(self, number: int, frame: Any) -> None:
        del number, frame
        self._is_asked = True

    def is_due(self, step: int) -> bool:
        """Whether to stop after this step, the same on all processes; each must ask after every step."""
        if self._is_joined:
            return multihost_utils.reached_preemption_sync_point(step)
        return self._is_asked

    def close(self) -> None:
        """Leaves the signal to whoever had it before."""
        if self._previous is not None:
            signal.signal(signal.SIGTERM, self._previous)
