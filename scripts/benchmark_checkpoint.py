"""What a checkpoint costs the thread that trains, and how long it is written beside it."""

import contextlib
import statistics
import tempfile
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath

from nfnets.checkpoint import Checkpoints
from nfnets.train_state import TrainState


def measure(state: TrainState, rounds: int, directory: Path | None = None) -> dict[str, float]:
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
    for step in range(1, rounds + 2):
        state = _anew(state._replace(step=jnp.asarray(step)))
        with tempfile.TemporaryDirectory(dir=directory) as place:
            start = time.perf_counter()
            jax.tree.map(np.array, state)
            copies.append(time.perf_counter() - start)
            state = _anew(state)
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


def _anew(state: TrainState) -> TrainState:
    """A copy on the device: JAX keeps what it has once copied to the host."""
    return jax.block_until_ready(jax.tree.map(jnp.copy, state))


def _median_ms(seconds: list[float]) -> float:
    return round(1e3 * statistics.median(seconds[1:]), 1)
