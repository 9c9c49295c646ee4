"""Writes a run as a directory ready for the Hugging Face hub, and uploads it."""

import json
import shutil
import tempfile
import uuid
from pathlib import Path

from etils import epath

from nfnets.errors import InputError
from nfnets.files import file_errors, is_local, why
from nfnets.publishing.card import Published, model_card
from nfnets.publishing.command import without_paths
from nfnets.publishing.timm_config import timm_builds, timm_config
from nfnets.publishing.upload import require_token, upload
from nfnets.run.config_file import to_json
from nfnets.run.logged import read_logged_run
from nfnets.weights import hub
from nfnets.weights.download import require_network
from nfnets.weights.fit import require_architecture
from nfnets.weights.load import load_checkpoint
from nfnets.weights.save import save_checkpoint
from nfnets.weights.timm import has_names


def publish(workdir: epath.Path, to: str, *, raw: bool = False) -> str:
    """Publishes the newest checkpoint of a run.

    It becomes `model.safetensors` by timm's names, or `model.npz` if timm has none; with it go
    `class_names.json`, the run's `settings.json`, the model card `README.md`, and a `config.json` for timm if
    that has the network.

    Args:
      workdir: of the run.
      to: directory, which must not exist or be empty, or hf:OWNER/NAME.
      raw: publish the parameters instead of their EMA.

    Returns:
      Where it is, for people.

    Raises:
      InputError: the working directory is of a network that no file holds, or the target cannot be written.
      TrainingStopped: the hub does not answer, which may be over soon.
    """
    if to.startswith('hf:'):
        return _publish_in_hub(workdir, to, raw)
    target = Path(to).absolute()
    if not is_local(to):
        raise InputError(f'--to={to} must be a directory on a disk, or hf:OWNER/NAME')
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise InputError(f'--to={to} exists already and is not empty: give another name')
    try:
        draft = target.with_name(f'{target.name}.{uuid.uuid4().hex}.tmp')
        draft.mkdir()
        try:
            name = target.name  # Not where it lies on this machine.
            _write(draft, workdir, name, None, f'local-dir:{name}', raw)
            draft.replace(target)
        finally:
            shutil.rmtree(draft, ignore_errors=True)
    except file_errors() as error:
        raise InputError(f'--to={to} cannot be written: {why(error)}') from error
    return to


def _publish_in_hub(workdir: epath.Path, to: str, raw: bool) -> str:
    place = hub.parse(to)
    if place.file is not None or place.revision != 'main':
        raise InputError(f'--to={to} must be hf:OWNER/NAME')
    require_network(to)
    require_token(to)
    with tempfile.TemporaryDirectory() as folder:
        try:
            _write(Path(folder), workdir, place.repo.partition('/')[2], to, f'hf-hub:{place.repo}', raw)
        except file_errors() as error:
            raise InputError(f'{to} cannot be prepared in {folder}: {why(error)}') from error
        return upload(Path(folder), place.repo)


def _write(
    folder: Path, workdir: epath.Path, title: str, in_hub: str | None, in_timm: str, raw: bool
) -> None:
    run = read_logged_run(workdir)
    params, about = load_checkpoint(workdir).choose(ema=not raw)
    network = require_architecture(
        params, f'{workdir} is of {run.config.model.name}, which no file holds, so it is not published'
    )
    file, form = (hub.SAFETENSORS, 'timm') if has_names(network) else (hub.NPZ, 'npz')
    save_checkpoint(epath.Path(folder / file), form, params, about)
    published = Published(
        title,
        'raw' if raw else 'ema',
        about.step or 0,
        in_hub or f'{title}/{file}',
        in_timm if timm_builds(network) else None,
        network.name,
    )
    texts = {
        'class_names.json': json.dumps(about.class_names, indent=1) + '\n',
        'settings.json': to_json(without_paths(run.config)),
        'README.md': model_card(run, published),
    }
    if published.in_timm:
        texts['config.json'] = json.dumps(timm_config(network, about), indent=1) + '\n'
    for name, text in texts.items():
        (folder / name).write_text(text, encoding='utf-8')
