"""Writes the parameters of an NFNet in any form that a file can have."""

import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from nfnets.errors import InputError
from nfnets.weights import about as about_lib
from nfnets.weights.about import About
from nfnets.weights.fit import require_architecture
from nfnets.weights.load import METADATA_KEY
from nfnets.weights.npz import write_npz
from nfnets.weights.released import Params, write_released
from nfnets.weights.timm import to_timm

FORMS = ('npz', 'timm', 'released')


def save_checkpoint(path: Path, form: str, params: Params, about: About) -> None:
    """Writes a file that `load_checkpoint` reads, and in timm's form timm.

    Args:
      path: must not exist; it appears whole or not at all.
      form: 'npz' (this project's own, safe), 'timm' (safetensors) or 'released' (a pickle, which cannot hold
        what is told of the parameters).
      params: {module: {name: array}}.
      about: what is told of them.

    Raises:
      InputError: the path exists or cannot be written, or the parameters are not an NFNet's.
    """
    network = require_architecture(params, 'the parameters are not those of an NFNet')
    if path.exists():
        raise InputError(f'{path} exists already: remove it first, or give another name')
    metadata = about_lib.to_json(about, variant=network.name, num_classes=network.num_classes)
    draft = path.with_name(path.name + '.tmp')
    try:
        _write(draft, form, params, metadata)
        with draft.open('rb') as file:
            os.fsync(file.fileno())
        draft.replace(path)
    except OSError as error:
        draft.unlink(missing_ok=True)
        raise InputError(f'{path} cannot be written: {error.strerror or error}') from error


def _write(path: Path, form: str, params: Mapping[str, Mapping[str, np.ndarray]], metadata: str) -> None:
    if form == 'npz':
        write_npz(path, params, metadata)
    elif form == 'timm':
        import safetensors.numpy

        safetensors.numpy.save_file(to_timm(params), path, {'format': 'pt', METADATA_KEY: metadata})
    elif form == 'released':
        with path.open('wb') as file:
            write_released(file, params)
    else:
        raise InputError(f'unknown form {form!r}; there are {", ".join(FORMS)}')
