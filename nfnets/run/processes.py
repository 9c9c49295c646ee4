"""The processes of one run: how they join, whether they are the same, and what follows if one is lost."""

import faulthandler
import json
import secrets
import time
from collections.abc import Mapping
from typing import Any

import jax
from etils import epath

from nfnets import host
from nfnets.errors import InputError, TrainingStopped
from nfnets.parallel import gather_bytes

# A process that is not heard of for so long is taken for lost, and JAX ends the others.
_LOST_AFTER_SECONDS = 30


def join(coordinator: str | None, num_processes: int | None, process_id: int | None) -> None:
    """Joins this process to the others; call it before anything is computed.

    On a TPU slice the hosts know all three, and none is given. Elsewhere without them this process is alone.

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
        if host.has_tpu():
            _initialize()
        return
    if missing:
        raise InputError(f'--{", --".join(given)} go together; missing: {", ".join(missing)}')
    assert coordinator is not None
    assert num_processes is not None
    assert process_id is not None
    address, _, port = coordinator.rpartition(':')
    if not address or not port.isdigit() or not 0 < int(port) < 2**16:
        raise InputError(
            f'--coordinator={coordinator} must be HOST:PORT of process 0, with a port below 65536'
        )
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


def require_same(facts: Mapping[str, Any]) -> None:
    """Compares what must be the same on all processes; each must call it.

    Args:
      facts: by name, of this process; what JSON can hold.

    Raises:
      InputError: one line, on every process, names the first fact that differs, and where.
    """
    first, *others = _gather(json.dumps(facts, default=str))
    expected = json.loads(first)
    for index, text in enumerate(others, start=1):
        there = json.loads(text)
        for name in sorted(expected.keys() | there.keys()):
            if expected.get(name) != there.get(name):
                raise InputError(
                    f'the processes of this run differ: {name} is {expected.get(name)} on process 0, and '
                    f'{there.get(name)} on process {index}'
                )


def require_shared(directory: epath.Path) -> None:
    """Checks that a directory is one and the same for all processes; each must call it.

    Args:
      directory: there for process 0, which writes a file into it and removes it.

    Raises:
      InputError: on every process, if one does not see that file.
    """
    if jax.process_count() == 1:
        return
    (token, *_) = _gather(secrets.token_hex(8))
    probe = directory / f'probe-{token}'
    if jax.process_index() == 0:
        probe.write_text('')
    _gather('')  # None looks before it is written.
    seen = _gather(str(int(probe.exists())))
    if jax.process_index() == 0:
        probe.unlink()
    blind = [str(index) for index, is_seen in enumerate(seen) if is_seen == '0']
    if blind:
        raise InputError(
            f'workdir {directory} is not the same directory on all processes: process {", ".join(blind)} '
            'does not see what process 0 writes there; it must be on a disk that all share, or in a bucket'
        )


def _gather(text: str) -> list[str]:
    """A text of each process, in their order."""
    return [one.decode() for one in gather_bytes(text.encode())]


def stopped_by_lost_process(step: int, error: Exception) -> TrainingStopped:
    """The error to raise after a step failed in a distributed run, as one of its processes is lost.

    A process that is killed closes its connections. So the step may fail here before JAX has noticed, by
    heartbeats that do not come, who is lost; then JAX ends this process with a message that names the other,
    for which this waits. A barrier of Orbax meanwhile, such as that of closing its manager, would meet on the
    devices here what is left of the step: Gloo calls that a collective mismatch.
    """
    time.sleep(2 * _LOST_AFTER_SECONDS)
    return TrainingStopped(f'step {step} failed in a distributed run: {" ".join(str(error).split())[:300]}')
