"""Rewinding: a new run of another length starts from the whole state of a checkpoint of an earlier run."""

import contextlib
from collections.abc import Iterator
from typing import Any, NamedTuple

import ml_collections
from etils import epath

from nfnets.errors import InputError
from nfnets.files import as_path
from nfnets.models.param_layout import ParamLayout
from nfnets.run.checkpoint import Checkpoints
from nfnets.run.config_file import LENGTH, changes_of_results
from nfnets.run.workdir import CHECKPOINTS, CONFIG, checkpoint_steps, read_class_names, read_config
from nfnets.train_state import TrainState

_MAY_DIFFER = (*LENGTH, 'init_from', 'rewind_from')  # Of what the state follows from: it is there already.


class Start(NamedTuple):
    """A checkpoint of an earlier run.

    Attributes:
      workdir: of that run.
      step: of the checkpoint.
    """

    workdir: epath.Path
    step: int


def read_settings(given: str) -> dict[str, Any]:
    """The settings of the run that 'RUN' or 'RUN@STEP' stands for, as nested as in the config.

    Raises:
      InputError: it is no run's working directory.
    """
    with _naming(given):
        return read_config(_split(given)[0])


def find_start(given: str, config: ml_collections.FrozenConfigDict, class_names: tuple[str, ...]) -> Start:
    """Finds the checkpoint to start from; without a step it is the newest.

    Args:
      given: 'RUN' or 'RUN@STEP', of which the settings were read.
      config: of the new run, complete.
      class_names: of its data.

    Raises:
      InputError: there is no such run or checkpoint, the run differs in more than its length, or the new one
        ends before the checkpoint.
    """
    with _naming(given):
        return _find(given, config, class_names)


def _find(given: str, config: ml_collections.FrozenConfigDict, class_names: tuple[str, ...]) -> Start:
    workdir, step = _split(given)
    path = workdir / CONFIG
    differ = changes_of_results(config, path.read_text(), str(path))
    wrong = [change for key, change in differ.items() if key not in _MAY_DIFFER]
    if wrong:
        raise InputError(f'that run has another config: {", ".join(wrong)}; only the length may differ')
    if read_class_names(workdir) not in (None, class_names):
        raise InputError('that run is on other classes than the data has now')
    steps = checkpoint_steps(workdir)
    if not steps or step not in (None, *steps):
        kept = f'only those of steps {", ".join(map(str, steps))}' if steps else 'none'
        raise InputError(f'there is no checkpoint{"" if step is None else f" of step {step}"}, {kept}')
    step = steps[-1] if step is None else step
    if step >= config.train.steps:
        raise InputError(
            f'train.steps={config.train.steps} must be more than the {step} that are done at that checkpoint'
        )
    return Start(workdir, step)


def _split(given: str) -> tuple[epath.Path, int | None]:
    path, _, step = given.rpartition('@')
    return (as_path(path), int(step)) if path and step.isdecimal() else (as_path(given), None)


@contextlib.contextmanager
def _naming(given: str) -> Iterator[None]:
    """Names the setting in what is wrong with it."""
    try:
        yield
    except InputError as error:
        raise InputError(f'rewind_from={given}: {error}') from error


def restore(start: Start, template: TrainState, layout: ParamLayout) -> tuple[TrainState, int]:
    """Reads the state and the data position; the earlier run stays as it is.

    Args:
      start: from `find_start`.
      template: a state of the same structure, whose values don't matter.
      layout: of its parameters.

    Raises:
      InputError: the checkpoint is damaged.
      TrainingStopped: it cannot be read for another reason.
    """
    checkpoints = Checkpoints(start.workdir / CHECKPOINTS, keep=None, layout=layout)
    try:
        return checkpoints.restore_step(template, start.step)
    finally:
        checkpoints.close()
