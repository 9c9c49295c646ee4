"""Measures what a checkpoint costs the thread that trains, for `scripts/benchmark.py checkpoint`."""

import contextlib
import dataclasses
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from benchmarks import step
from etils import epath

from nfnets import build
from nfnets.run.checkpoint import Checkpoints
from nfnets.train_state import TrainState


def measure(setup: step.Setup, rounds: int) -> dict[str, Any]:
    """The JSON object that `scripts/benchmark.py checkpoint` prints.

    Args:
      setup: of the training step that saving is compared with.
      rounds: times that the step is run and that its state is saved.
    """
    run, _ = step.training_step(dataclasses.replace(setup, command='step'))
    step_ms = 1e3 * float(np.median(step.time_in_turn({'step': run}, rounds)['step']))
    state = jax.jit(build.new_state, static_argnums=0)(step.make_config(setup))
    times = time_saving(state, rounds)
    keys = ('command', 'variant', 'batch', 'image_size', 'precision')
    return {
        **{key: getattr(setup, key) for key in keys},
        'device': step.device(),
        'step_ms': round(step_ms, 1),
        **times,
        'rest_share_of_step': round(times['rest_ms'] / step_ms, 4),
    }


def time_saving(state: TrainState, rounds: int, directory: Path | None = None) -> dict[str, float]:
    """Saves a state several times.

    Args:
      state: on the device.
      rounds: times that count; one before does not.
      directory: where checkpoints are written, and removed; the system's for temporary files if None.

    Returns:
      Medians: 'copy_ms' of the state, 'rest_ms' of what `save` takes besides, both on the calling thread, and
      'write_ms' until the checkpoint is complete; and 'size_mb' of the state.
    """
    copies, rests, writes = [], [], []
    for number in range(1, rounds + 2):
        state = _copy(state._replace(step=jnp.asarray(number)))
        with tempfile.TemporaryDirectory(dir=directory) as place:
            start = time.perf_counter()
            jax.tree.map(np.array, state)
            copies.append(time.perf_counter() - start)
            state = _copy(state)
            with contextlib.closing(Checkpoints(epath.Path(place) / 'checkpoints', keep=1)) as checkpoints:
                start = time.perf_counter()
                checkpoints.save(state, position=0)
                saved = time.perf_counter()
            rests.append(saved - start - copies[-1])
            writes.append(time.perf_counter() - saved)
    return {
        'copy_ms': _median_ms(copies),
        'rest_ms': _median_ms(rests),
        'write_ms': _median_ms(writes),
        'size_mb': round(sum(leaf.nbytes for leaf in jax.tree.leaves(state)) / 1e6, 3),
    }


def _copy(state: TrainState) -> TrainState:
    """A copy on the device: JAX keeps what it has once copied to the host."""
    return jax.block_until_ready(jax.tree.map(jnp.copy, state))


def _median_ms(seconds: list[float]) -> float:
    return round(1e3 * statistics.median(seconds[1:]), 1)
