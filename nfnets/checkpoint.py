"""Saves and restores a run's state and its place in the data, by Orbax."""

from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from nfnets.train_state import TrainState


def has_checkpoint(directory: Path) -> bool:
    """Whether a directory holds a complete checkpoint; it need not exist."""
    return directory.is_dir() and any(entry.name.isdigit() for entry in directory.iterdir())


class Checkpoints:
    """The checkpoints of one run: written off the training thread, atomic, the last few kept."""

    def __init__(self, directory: Path, keep: int | None):
        """Args: directory is created where missing; keep is how many of the latest stay (None: all)."""
        options = ocp.CheckpointManagerOptions(max_to_keep=keep, create=True)
        self._manager = ocp.CheckpointManager(directory.absolute(), options=options)

    def latest_step(self) -> int | None:
        """The step of the newest complete checkpoint."""
        return self._manager.latest_step()

    def save(self, state: TrainState, position: int) -> None:
        """Starts to write a checkpoint; returns once the state is copied.

        Args:
          state: after some step.
          position: images of the training stream that all processes have consumed.
        """
        # NumPy copies: the next step takes the arrays' memory, which `jax.device_get` may only look
        # into, and Orbax refuses what pmap gives on several processes.
        copy = jax.tree.map(np.array, state)
        step = int(copy.step)
        if step == self.latest_step():
            return
        args = ocp.args.Composite(
            state=ocp.args.StandardSave(copy),
            input=ocp.args.JsonSave({'position': position}),
        )
        self._manager.save(step, args=args, force=True)

    def restore(self, template: TrainState) -> tuple[TrainState, int]:
        """Reads the newest checkpoint.

        Args:
          template: a state of the same structure, whose values don't matter.

        Returns:
          The state, as NumPy arrays, and the position in the training stream.
        """
        args = ocp.args.Composite(
            state=ocp.args.StandardRestore(jax.device_get(template)),
            input=ocp.args.JsonRestore(),
        )
        restored = self._manager.restore(self.latest_step(), args=args)
        return restored['state'], restored['input']['position']

    def restore_arrays(self) -> dict[str, Any]:
        """Reads the newest checkpoint of whatever network: the fields of the state, as NumPy arrays."""
        args = ocp.args.Composite(state=ocp.args.StandardRestore())
        return self._manager.restore(self.latest_step(), args=args)['state']

    def close(self) -> None:
        """Waits until what was started is written."""
        self._manager.close()
