"""Writes the parameters of an NFNet in any form that a file can have."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from etils import epath

from nfnets.errors import InputError
from nfnets.files import failure, file_errors, replacing, why
from nfnets.weights import about as about_lib
from nfnets.weights.about import About
from nfnets.weights.fit import require_architecture
from nfnets.weights.load import METADATA_KEY
from nfnets.weights.npz import write_npz
from nfnets.weights.released import Params, write_released
from nfnets.weights.timm import to_timm

FORMS = ('npz', 'timm', 'released')


def save_checkpoint(path: epath.Path, form: str, params: Params, about: About) -> None:
    """Writes a file that `load_checkpoint` reads, and in timm's form timm.

    Args:
      path: must not exist; it appears whole or not at all.
      form: 'npz' (this project's own, safe), 'timm' (safetensors) or 'released' (a pickle, which cannot hold
        metadata).
      params: {module: {name: array}}.
      about: their metadata.

    Raises:
      InputError: the path exists or cannot be written, or the parameters are of no network that files hold or
        timm has, where its form is asked for.
    """
    network = require_architecture(params, 'the parameters are not those of an NFNet')
    if path.exists():
        raise InputError(f'{path} exists already: remove it first, or give another name')
    metadata = about_lib.to_json(about, variant=network.name, num_classes=network.num_classes)
    try:
        with replacing(path) as draft:
            _write(draft, form, params, about.activation, metadata)
    except file_errors() as error:
        raise failure(f'{path} cannot be written: {why(error)}', error) from error


def _write(
    path: Path,
    form: str,
    params: Mapping[str, Mapping[str, np.ndarray]],
    activation: str | None,
    metadata: str,
) -> None:
    if form == 'npz':
        write_npz(path, params, metadata)
    elif form == 'timm':
        import safetensors
        import safetensors.numpy

        path.touch()
        mode = path.stat().st_mode
        try:
            safetensors.numpy.save_file(
                to_timm(params, activation), path, {'format': 'pt', METADATA_KEY: metadata}
            )
        except safetensors.SafetensorError as error:
            raise OSError(str(error)) from error
        path.chmod(mode)  # Its own is for the user alone.
    elif form == 'released':
        with path.open('wb') as file:
            write_released(file, params)
    else:
        raise InputError(f'unknown form {form!r}; there are {", ".join(FORMS)}')
