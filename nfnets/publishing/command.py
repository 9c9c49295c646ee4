"""The command that trains a network as a run did: the nearest config of this project, and what differs."""

import importlib
import pkgutil
import shlex
from collections.abc import Iterator
from pathlib import PurePath
from typing import Any, NamedTuple

import ml_collections

from nfnets import configs
from nfnets.config import check, complete, flatten
from nfnets.errors import InputError
from nfnets.weights import by_name


def without_paths(config: ml_collections.FrozenConfigDict) -> ml_collections.ConfigDict:
    """The config of a run without where things lie on its machine."""
    public = ml_collections.ConfigDict(config)
    for group in (public.data, public.probe, *public.data.mixture.values()):
        if group.dir is not None:
            group.dir = 'DATA'
    if config.rewind_from is not None:
        public.rewind_from = PurePath(config.rewind_from).name
    if config.init_from is not None and not by_name.is_name(config.init_from):
        public.init_from = PurePath(config.init_from).name
    return public


def training_command(config: ml_collections.FrozenConfigDict) -> str:
    """The `nfnets-train` that gives this config, but for paths, a setting a line.

    Args:
      config: as run: complete.
    """
    settings = flatten(without_paths(config).to_dict())
    # Of those that are as near, one that says more than the default.
    base = min(_bases(config), key=lambda base: (len(base.changes(settings)), base.name == 'default'))
    flags = [shlex.quote(f'--config.{key}={_text(settings[key])}') for key in base.changes(settings)]
    return ' \\\n    '.join(['nfnets-train --workdir=RUN', f'--config={base.name}', *flags])


class _Base(NamedTuple):
    """A config of this project, complete but for what follows from the data: settings by key."""

    name: str
    settings: dict[str, Any]

    def changes(self, settings: dict[str, Any]) -> list[str]:
        """Keys of the settings that are others."""
        return [key for key in settings if _text(settings[key]) != _text(self.settings.get(key))]


def _bases(config: ml_collections.FrozenConfigDict) -> Iterator[_Base]:
    """This project's configs, with the run's variant or network where they take one."""
    for module in pkgutil.iter_modules(configs.__path__):
        get_config = importlib.import_module(f'{configs.__name__}.{module.name}').get_config
        for variant in ((), (config.model.variant,), (config.model.name,)):
            try:
                base = get_config(*variant)
                check(base)
                classes = config.model.num_classes
                base = complete(base, num_examples=None, num_classes=classes, num_devices=1)
            except (TypeError, InputError):  # It takes none, or not this one.
                continue
            yield _Base(':'.join([module.name, *variant]), flatten(base.to_dict()))


def _text(value: Any) -> str:
    # The config in a working directory has lists for tuples.
    return str(tuple(value)).replace(' ', '') if isinstance(value, tuple | list) else str(value)
