"""The working directory of a run: its config, class names and checkpoints."""

import json
from typing import Any, NamedTuple

import jax
import ml_collections
from etils import epath

from nfnets.errors import InputError
from nfnets.files import failure, file_errors, replace_file
from nfnets.run.checkpoint import Checkpoints, whole_steps
from nfnets.run.config_file import DATA_DIR, check_same_run, from_json, to_json

CONFIG = 'config.json'
METRICS = 'metrics.jsonl'
CHECKPOINTS = 'checkpoints'
_CLASS_NAMES = 'class_names.json'
# Settings that those who use a run's parameters ask for.
_NEEDED = (
    *('data.train_size', 'data.eval_size', 'data.eval_margin', 'data.eval_style'),
    *('model.name', 'model.activation'),
)


class SavedRun(NamedTuple):
    """The config and checkpoints of a run in its working directory.

    Attributes:
      state: the fields of `TrainState` in its newest checkpoint, unstacked NumPy arrays.
      step: of that checkpoint.
      settings: as nested as in the config.
      class_names: 0 first; None if the run did not keep them.
    """

    state: dict[str, Any]
    step: int
    settings: dict[str, Any]
    class_names: tuple[str, ...] | None


def read_run(workdir: epath.Path) -> SavedRun:
    """Reads the newest checkpoint of a run, and what it is of.

    Raises:
      InputError: the directory is none of a run, or holds no checkpoint that can be read.
    """
    settings = read_config(workdir)
    directory = workdir / CHECKPOINTS
    if not directory.is_dir():
        raise InputError(f'{workdir} holds no {CHECKPOINTS}/: the run has not saved any yet')
    checkpoints = Checkpoints(directory, keep=None)
    step = checkpoints.latest_step()
    if step is None:
        raise InputError(f'{directory} holds no checkpoint: the run has not saved any yet')
    try:
        state = checkpoints.restore_arrays()
    except Exception as error:  # Whatever the libraries below raise for a damaged file.
        raise InputError(f'checkpoint {step} in {directory} cannot be read: {error}') from error
    finally:
        checkpoints.close()
    return SavedRun(state, step, settings, read_class_names(workdir))


def read_config(workdir: epath.Path, task: str | None = None) -> dict[str, Any]:
    """The settings of a run, as nested as in the config.

    Args:
      workdir: of the run.
      task: that it must be of; None: of any.

    Raises:
      InputError: the directory is none of a run, or of one of another task.
    """
    path = workdir / CONFIG
    if not path.is_file():
        raise InputError(f'{workdir} is no working directory of a run: it holds no {CONFIG}')
    settings = from_json(_read_text(path), str(path))
    try:
        for key in _NEEDED:
            group, _, name = key.partition('.')
            settings[group][name]
    except (TypeError, KeyError) as error:
        raise InputError(f'{path} is not a config that a run wrote: it lacks {error}') from error
    if task not in (None, settings['task']):
        raise InputError(f'{workdir} is a run with task={settings["task"]}; it must be {task}')
    return settings


def read_class_names(workdir: epath.Path) -> tuple[str, ...] | None:
    """The names of the classes that a run was trained on; None if it did not keep them.

    Raises:
      InputError: the file is not what a run writes.
    """
    path = workdir / _CLASS_NAMES
    if not path.exists():
        return None
    try:
        names = json.loads(_read_text(path))
    except ValueError as error:
        raise InputError(f'{path} cannot be read: {error}') from error
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise InputError(f'{path} is no list of names')
    return tuple(names)


def checkpoint_steps(workdir: epath.Path) -> list[int]:
    """The steps of a working directory's checkpoints, in order; it need not exist.

    Raises:
      InputError: it cannot be read.
    """
    try:
        return whole_steps(workdir / CHECKPOINTS)
    except file_errors() as error:
        raise _unusable(workdir, error) from error


def name_last_checkpoint(workdir: epath.Path) -> str:
    """The step of the newest checkpoint, for messages."""
    steps = whole_steps(workdir / CHECKPOINTS)
    return str(steps[-1]) if steps else 'none'


def check_resumable(
    workdir: epath.Path, config: ml_collections.FrozenConfigDict, class_names: tuple[str, ...]
) -> list[str]:
    """Refuses a working directory that holds a run of another config, or on other classes.

    Returns:
      Warnings about what differs and may.

    Raises:
      InputError: the run in it has another config or other classes, or the directory cannot be read.
    """
    path = workdir / CONFIG
    try:
        if not path.exists():
            return []
        changed = check_same_run(config, path.read_text(), str(path))
    except file_errors() as error:
        raise _unusable(workdir, error) from error
    if read_class_names(workdir) not in (None, class_names):
        raise InputError(f'workdir {workdir} is of a run on other classes than the data has now')
    return [f'resuming with {change}' for change in changed if DATA_DIR.match(change)]


def claim(
    workdir: epath.Path, config: ml_collections.FrozenConfigDict, class_names: tuple[str, ...] | None
) -> None:
    """Makes a working directory this run's own: writes its config and, where known, names of classes.

    Raises:
      InputError: it cannot be written to.
    """
    try:
        if jax.process_index() == 0:
            workdir.mkdir(parents=True, exist_ok=True)
            if class_names is not None:
                replace_file(workdir / _CLASS_NAMES, json.dumps(class_names, indent=0) + '\n')
            replace_file(workdir / CONFIG, to_json(config))
    except file_errors() as error:
        raise _unusable(workdir, error) from error


def _unusable(workdir: epath.Path, error: Exception) -> Exception:
    return failure(f'workdir {workdir} cannot be used: {error}', error)


def _read_text(path: epath.Path) -> str:
    try:
        return path.read_text()
    except file_errors(UnicodeDecodeError) as error:
        raise failure(f'{path} cannot be read: {error}', error) from error
