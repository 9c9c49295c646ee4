"""Saves and restores a run's state and its data position, by Orbax, with checksums."""

import functools
import importlib
import json
import re
import textwrap
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from etils import epath

from nfnets import parallel
from nfnets.errors import InputError, TrainingStopped
from nfnets.files import failure, file_errors, is_folder, is_local, why
from nfnets.models.param_layout import UNSTACKED, ParamLayout
from nfnets.run.checksum import ChecksumRestore, ChecksumSave, differing
from nfnets.train_state import TrainState, map_params

_DAMAGED = '.damaged'  # Ends the names of checkpoints that were found to be.
# Messages of tensorstore about files that are shorter than they should be, or cannot be decoded.
_DAMAGE = re.compile(
    r'^(?:DATA_LOSS|OUT_OF_RANGE): |Error decoding |Truncated \w+-compressed stream'
    r'|ZSTD_decompress\w+\(\) failed: (?!Allocation error)'
)


def whole_steps(directory: epath.Path) -> list[int]:
    """The steps of a directory's complete checkpoints, in order; it need not exist."""
    return sorted(ocp.utils.checkpoint_steps(directory)) if is_folder(directory) else []


class Damaged(InputError):
    """A checkpoint's arrays are not those that were written."""


def is_damage(error: Exception) -> bool:
    """Whether a checkpoint was read but is not what was written: a checksum or a decoding failed.

    Anything else, such as an error of the disk or a lack of memory, is no evidence about the files.
    """
    if isinstance(error, Damaged | json.JSONDecodeError | UnicodeDecodeError):
        return True
    # Tensorstore raises ValueError whatever happens, and only its message differs.
    return isinstance(error, ValueError) and _DAMAGE.search(str(error)) is not None


class _Unchanging(np.ndarray):
    """An array that Orbax need not copy again."""

    def __deepcopy__(self, memo: Any) -> '_Unchanging':
        return self


class Checkpoints:
    """The checkpoints of one run: written off the training thread, atomic, the last few kept."""

    def __init__(self, directory: epath.Path, keep: int | None, layout: ParamLayout = UNSTACKED):
        """Opens a directory of checkpoints, or makes it.

        Args:
          directory: on a disk or in a bucket.
          keep: how many of the latest stay (None: all).
          layout: of the parameters in the states here; on disk they are unstacked.

        Raises:
          InputError: it cannot be used.
          TrainingStopped: its bucket does not answer now.
        """
        self._stack = functools.partial(map_params, layout.stack)
        self._unstack = functools.partial(map_params, layout.unstack)
        options = ocp.CheckpointManagerOptions(max_to_keep=keep, create=True)
        self._is_abandoned = False
        self._directory = directory.absolute() if is_local(directory) else directory
        if not is_local(directory):
            _require_gcs(directory)
        try:
            self._manager = ocp.CheckpointManager(self._directory, options=options)
        except file_errors() as error:
            raise failure(f'{directory} cannot be used: {why(error)}', error) from error

    def latest_step(self) -> int | None:
        """The step of the newest complete checkpoint."""
        return max(whole_steps(self._directory), default=None)

    def save(self, state: TrainState, position: int) -> None:
        """Starts to write a checkpoint; returns once the state is copied.

        Args:
          state: after some step.
          position: images of the training stream that all processes have consumed.

        Raises:
          TrainingStopped: this checkpoint, or the one before it, cannot be written.
        """
        # NumPy copies: the next step takes the arrays' memory, which `jax.device_get` may only look
        # into, and Orbax refuses what pmap gives in a multi-host run.
        copy = self._unstack(jax.tree.map(lambda x: np.array(x).view(_Unchanging), state))
        step = int(copy.step)
        if step in self._manager.all_steps():
            return
        args = ocp.args.Composite(
            state=ocp.args.StandardSave(copy),
            input=ocp.args.JsonSave({'position': position}),
            checksums=ChecksumSave(_content(copy._asdict(), position)),
        )
        try:
            self._manager.save(step, args=args, force=True)
        except jax.errors.JaxRuntimeError:  # Of a barrier that another process does not reach any more.
            raise
        except Exception as error:  # Whatever the libraries below raise for a full disk.
            raise self._failed(error) from error

    def restore(self, template: TrainState) -> tuple[TrainState, int, list[str]]:
        """Reads the newest checkpoint that is as it was written.

        Newer ones, found to be damaged, are set aside under another name.

        Args:
          template: a state of the same structure, whose values don't matter.

        Returns:
          The state, as NumPy arrays, the position in the training stream, and what was wrong with the
          newer checkpoints.

        Raises:
          InputError: none is whole.
          TrainingStopped: one cannot be read for another reason than damage, such as an error of the disk, a
            lack of memory, or a bucket that does not answer; nothing was changed.
        """
        problems: dict[int, str] = {}
        for step in reversed(whole_steps(self._directory)):
            try:
                state, position = self._read_together(step, template)
            except Damaged as error:
                problems[step] = str(error)
                continue
            self._set_aside(problems)
            damaged = [f'checkpoint {step} is damaged: {problem}' for step, problem in problems.items()]
            return state, position, damaged
        every = '; '.join(f'{step}: {problem}' for step, problem in problems.items())
        raise InputError(f'no checkpoint in {self._directory} is whole: {every}')

    def restore_step(self, template: TrainState, step: int) -> tuple[TrainState, int]:
        """Reads the state and the position in one checkpoint, which stays as it is.

        Raises:
          InputError: the checkpoint is damaged.
          TrainingStopped: as of `restore`.
        """
        try:
            return self._read_together(step, template)
        except Damaged as error:
            raise InputError(f'checkpoint {step} in {self._directory} is damaged: {error}') from error

    def _read_together(self, step: int, template: TrainState) -> tuple[TrainState, int]:
        """A checkpoint's state and position; all processes read it, or all raise.

        None stops before the others have reported what they found.

        Raises:
          Damaged: the checkpoint is damaged.
          TrainingStopped: a process cannot read it for another reason.
        """
        damage: Exception | None = None
        failed: Exception | None = None
        try:
            state, position = self._read(step, self._unstack(jax.device_get(template)))
        except Exception as error:
            damage, failed = (error, None) if is_damage(error) else (None, error)
        if parallel.sum_over_processes(int(failed is not None)) > 0:
            why_failed = 'another process cannot read it' if failed is None else _short(failed)
            raise TrainingStopped(
                f'checkpoint {step} in {self._directory} cannot be read, though it is not damaged: '
                f'{why_failed}; nothing was changed'
            ) from failed
        if parallel.sum_over_processes(int(damage is not None)) > 0:
            found = 'another process finds it damaged' if damage is None else _short(damage)
            raise Damaged(found) from damage
        return self._stack(state), position

    def _read(self, step: int, template: TrainState) -> tuple[TrainState, int]:
        args = ocp.args.Composite(
            state=ocp.args.StandardRestore(template),
            input=ocp.args.JsonRestore(),
            checksums=ChecksumRestore(),
        )
        restored = self._manager.restore(step, args=args)
        state, position = restored['state'], restored['input']['position']
        _check(_content(state._asdict(), position), restored['checksums'])
        return state, position

    def _set_aside(self, steps: dict[int, str]) -> None:
        if jax.process_index() == 0:
            for step in steps:
                path = self._directory / str(step)
                path.rename(path.with_name(path.name + _DAMAGED))
        parallel.sum_over_processes(0)  # Nobody continues before.
        self._manager.reload()

    def restore_arrays(self) -> dict[str, Any]:
        """Reads the newest checkpoint of whatever network: the fields of the state, as NumPy arrays.

        Raises:
          Damaged: the checkpoint is not as it was written; anything else that the libraries below raise.
        """
        args = ocp.args.Composite(
            state=ocp.args.StandardRestore(), input=ocp.args.JsonRestore(), checksums=ChecksumRestore()
        )
        restored = self._manager.restore(self.latest_step(), args=args)
        _check(_content(restored['state'], restored['input']['position']), restored['checksums'])
        return restored['state']

    def abandon(self) -> None:
        """Makes `close` leave unfinished what is being written, since another process is lost.

        Orbax would wait for it in a barrier, which is computed on the devices.
        """
        self._is_abandoned = True

    def close(self) -> None:
        """Waits until what was started is written.

        Raises:
          TrainingStopped: a checkpoint cannot be written.
        """
        if self._is_abandoned:
            return
        try:
            self._manager.close()
        except Exception as error:
            raise self._failed(error) from error

    def _failed(self, error: Exception) -> TrainingStopped:
        return TrainingStopped(f'a checkpoint cannot be written to {self._directory}: {_short(error)}')


def _require_gcs(directory: epath.Path) -> None:
    try:
        importlib.import_module('google.cloud.storage')  # As Orbax will.
    except ImportError as error:
        raise InputError(
            f'{directory} is in a bucket, which needs a package more: pip install google-cloud-storage'
        ) from error


def _content(state: dict[str, Any], position: int) -> dict[str, Any]:
    return {**state, 'position': np.int64(position)}


def _check(content: dict[str, Any], expected: dict[str, int]) -> None:
    damaged = differing(content, expected)
    if damaged:
        raise Damaged(
            f'{len(damaged)} of {len(expected)} arrays differ from their checksums, {damaged[0]} the first'
        )


def _short(error: Exception) -> str:
    return textwrap.shorten(str(error) or type(error).__name__, 200)
