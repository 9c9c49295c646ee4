"""The parameters of a training run, from its working directory, and a directory made of parameters."""

import json
from typing import Any

from etils import epath

from nfnets.checkpoint import Checkpoints
from nfnets.data.preprocessing import Preprocessing
from nfnets.errors import InputError
from nfnets.files import failure, file_errors, replace_file
from nfnets.saved_config import from_json
from nfnets.weights.about import About

CONFIG = 'config.json'
CHECKPOINTS = 'checkpoints'
_CLASS_NAMES = 'class_names.json'


def write_class_names(workdir: epath.Path, class_names: tuple[str, ...]) -> None:
    """Keeps the names of the classes beside a run's config."""
    replace_file(workdir / _CLASS_NAMES, json.dumps(class_names, indent=0) + '\n')


def read_class_names(workdir: epath.Path) -> tuple[str, ...] | None:
    """The names of the classes that a run was trained on; None if it did not keep them.

    Raises:
      InputError: the file is not what a run writes.
    """
    path = workdir / _CLASS_NAMES
    if not path.exists():
        return None
    names = _read_json(path)
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise InputError(f'{path} is no list of names')
    return tuple(names)


def read_workdir(workdir: epath.Path) -> tuple[dict[str, Any], About]:
    """Reads the newest checkpoint of a run.

    Returns:
      The fields of `TrainState` as they were saved, and what is told of the parameters.

    Raises:
      InputError: the directory is none of a run, or holds no checkpoint that can be read.
    """
    settings = read_config(workdir)
    if not (workdir / CHECKPOINTS).is_dir():
        raise InputError(f'{workdir} holds no {CHECKPOINTS}/: the run has not saved any yet')
    checkpoints = Checkpoints(workdir / CHECKPOINTS, keep=None)
    step = checkpoints.latest_step()
    if step is None:
        raise InputError(f'{workdir / CHECKPOINTS} holds no checkpoint: the run has not saved any yet')
    try:
        state = checkpoints.restore_arrays()
    except Exception as error:  # Whatever the libraries below say of a damaged file.
        raise InputError(f'checkpoint {step} in {workdir / CHECKPOINTS} cannot be read: {error}') from error
    finally:
        checkpoints.close()
    about = About(
        class_names=read_class_names(workdir),
        preprocessing=Preprocessing(
            settings['data']['eval_size'], settings['data']['eval_margin'], settings['data']['eval_style']
        ),
        train_size=settings['data']['train_size'],
        network=settings['model']['name'],
        activation=settings['model']['activation'],
        step=step,
    )
    return state, about


def read_config(workdir: epath.Path) -> dict[str, Any]:
    """The settings of a run, as nested as in the config.

    Raises:
      InputError: the directory is none of a run.
    """
    path = workdir / CONFIG
    if not path.is_file():
        raise InputError(f'{workdir} is no working directory of a run: it holds no {CONFIG}')
    settings = from_json(_read_text(path), str(path))
    try:
        _ = settings['data']['eval_size'], settings['data']['eval_margin'], settings['data']['eval_style']
        _ = settings['data']['train_size'], settings['model']['name'], settings['model']['activation']
    except (TypeError, KeyError) as error:
        raise InputError(f'{path} is not a config that a run wrote: it lacks {error}') from error
    return settings


def _read_json(path: epath.Path) -> Any:
    try:
        return json.loads(_read_text(path))
    except ValueError as error:
        raise InputError(f'{path} cannot be read: {error}') from error


def _read_text(path: epath.Path) -> str:
    try:
        return path.read_text()
    except file_errors(UnicodeDecodeError) as error:
        raise failure(f'{path} cannot be read: {error}', error) from error
