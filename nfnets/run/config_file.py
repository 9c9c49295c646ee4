"""The config of a run on disk: `config.json`, of this version of the project and of earlier ones."""

import json
import math
import re
from typing import Any

import ml_collections

from nfnets.config import flatten
from nfnets.errors import InputError

# For each version, the settings that it added, with the values that held before there was a choice. Whoever
# adds a setting adds a version.
_ADDED: tuple[dict[str, Any], ...] = (
    {  # Version 1. Files before it carry no version, and lack settings from one on.
        'data.eval_style': 'paper',
        'init_from': None,
        'sam.rho': 0.0,
        'sam.ascent_fraction': 0.2,
        'optimizer.freeze': '',
        'model.scan': False,
        'model.remat': False,
        'train.accumulate_steps': 1,
        'model.name': 'NFNet',
        'optimizer.agc_skip': '^[^/]+/~/linear/w$',
        'optimizer.lars_trust': 0.0,
        'optimizer.max_grad_norm': math.inf,
        'model.second_conv': True,
    },
    {'train.all_reduce': 'float32'},  # Version 2.
    {'train.shard_optimizer': False},  # Version 3.
    {  # Version 4.
        'train.loss': 'softmax',
        'data.repeats': 1,
        'probe.source': None,
        'probe.name': None,
        'probe.dir': None,
        'probe.train_split': 'train',
        'probe.eval_split': 'validation',
        'probe.shots': (1, 5, 10, 25),
        'probe.linear': False,
        'rewind_from': None,
    },
    {  # Version 5. Lists, as JSON has them.
        'task': 'classification',
        'optimizer.drops': [],
        'detection.scales': [0.8, 1.25],
        'detection.most_objects': 100,
        'detection.channels': 256,
        'detection.hidden': 1024,
        'detection.anchor_scale': 8.0,
        'detection.most_of_level': 2000,
        'detection.proposals': 1000,
        'detection.regions': 512,
        'detection.detections': 100,
    },
    {'data.mixture': {}},  # Version 6.
)
_VERSION = 'version'
_INFINITE = 'inf'  # JSON has no infinity.
_MAY_BE_INFINITE = ('optimizer.agc_clipping', 'optimizer.max_grad_norm')

# Settings that say how a run is watched, where its data and its state lie and how its blocks are compiled,
# not what it computes: they may change when a run is resumed.
_MAY_CHANGE = (
    'data.skip_broken',
    'model.scan',
    'model.remat',
    'train.shard_optimizer',
    'train.log_every_steps',
    'eval.',
    'probe.',
    'checkpoint.',
)
DATA_DIR = re.compile(r'data\.(?:mixture\.[^.=]+\.)?dir')  # May, too; each host may have its own.
LENGTH = ('train.steps', 'train.epochs')


def may_change(key: str) -> bool:
    """Whether a setting may be another when a run is resumed."""
    return key.startswith(_MAY_CHANGE) or DATA_DIR.fullmatch(key) is not None


def to_json(config: ml_collections.FrozenConfigDict) -> str:
    """The config, and the version of its form, as a JSON object of one key a line."""
    settings = _map_values(config.to_dict(), lambda value: _INFINITE if value == math.inf else value)
    text = json.dumps({_VERSION: len(_ADDED), **settings}, indent=2, sort_keys=True, allow_nan=False)
    return text + '\n'


def from_json(text: str, path: str) -> dict[str, Any]:
    """The settings of a run, as nested as in the config, whichever version wrote them.

    Args:
      text: of a `config.json`.
      path: of that file, for messages.

    Returns:
      Every setting of today; one that is younger than the run has the value that held then.

    Raises:
      InputError: it is not a config that a run wrote, or a later version of this project wrote it.
    """
    try:
        settings = json.loads(text)
        version = settings.pop(_VERSION, 0)
        known = flatten(settings)
    except (json.JSONDecodeError, AttributeError, TypeError) as error:
        raise InputError(f'{path} is not a config that a run wrote: {error}') from error
    if not isinstance(version, int) or not 0 <= version <= len(_ADDED):
        raise InputError(
            f'{path} has version {version!r}, and this code reads up to {len(_ADDED)}: a later version of '
            'it wrote the file'
        )
    for added in _ADDED[version:]:
        for key, value in added.items():
            known.setdefault(key, value)
    for key in _MAY_BE_INFINITE:
        if known.get(key) == _INFINITE:
            known[key] = math.inf
    return _nest(known)


def check_same_run(config: ml_collections.FrozenConfigDict, written: str, path: str) -> list[str]:
    """Refuses to resume a run of another config.

    Args:
      config: of the run to start.
      written: the JSON of the run that the working directory holds.
      path: of that JSON, for messages.

    Returns:
      What differs and may, for messages.

    Raises:
      InputError: a setting that changes what is computed differs, or the file cannot be read.
    """
    changed = _changes(config, written, path)
    wrong = changes_of_results(config, written, path)
    if not wrong:
        return list(changed.values())
    longer = ''
    if any(key in changed for key in LENGTH):
        # The learning rate of every step depends on the length.
        longer = '; for another length, take another --workdir with --config.rewind_from=DIR@STEP'
    raise InputError(
        f'{path} is of a run with another config: {", ".join(wrong.values())}; '
        f'give the same settings to resume it, or another --workdir{longer}'
    )


def changes_of_results(config: ml_collections.FrozenConfigDict, written: str, path: str) -> dict[str, str]:
    """The settings that differ from those of another run and change what is computed.

    Args:
      config: of the run to start.
      written: the JSON of the other run's config.
      path: of that JSON, for messages.

    Returns:
      {setting: how it differs}, for messages.

    Raises:
      InputError: the file cannot be read.
    """
    changed = _changes(config, written, path)
    return {key: change for key, change in changed.items() if not may_change(key)}


def _changes(config: ml_collections.FrozenConfigDict, written: str, path: str) -> dict[str, str]:
    before = flatten(from_json(written, path))
    now = flatten(from_json(to_json(config), path))
    return {
        key: f'{key}={now.get(key)} (there: {before.get(key)})'
        for key in sorted(now.keys() | before.keys())
        if now.get(key) != before.get(key)
    }


def _map_values(tree: dict[str, Any], function: Any) -> dict[str, Any]:
    return {k: _map_values(v, function) if isinstance(v, dict) else function(v) for k, v in tree.items()}


def _nest(flat: dict[str, Any]) -> dict[str, Any]:
    """{'train.steps': 3} -> {'train': {'steps': 3}}."""
    tree: dict[str, Any] = {}
    for key, value in flat.items():
        *groups, name = key.split('.')
        inside = tree
        for group in groups:
            inside = inside.setdefault(group, {})
        inside[name] = value
    return tree
