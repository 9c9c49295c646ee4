"""Which settings matter to a run, given its others."""

import math
from collections.abc import Callable, Mapping
from typing import Any

from nfnets.models.networks import NETWORKS
from nfnets.saved_config import MAY_CHANGE

Settings = Mapping[str, Any]  # By dotted key, as 'train.steps'.

_MIX = 'augment.mixup_alpha', 'augment.cutmix'
_ARCHITECTURE = 'widths', 'depths', 'group_width', 'second_conv'


def is_its_variant(settings: Settings) -> bool:
    """Whether the network has the stages and blocks of the variant it is called after."""
    variant = NETWORKS[settings['model.name']].variants[settings['model.variant']]
    return all(_tuple(settings[f'model.{key}']) == getattr(variant, key) for key in _ARCHITECTURE)


def _tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


# When a setting has an effect; those not named here always have one.
_CONDITIONS: dict[str, Callable[[Settings], bool]] = {
    'model.variant': is_its_variant,  # Else the name says nothing that other settings do not.
    'model.second_conv': lambda s: s['model.name'] in ('NFNet', 'BNNet'),
    'data.name': lambda s: s['data.source'] == 'tfds',
    'data.dir': lambda s: s['data.source'] != 'digits',
    'augment.partners': lambda s: any(s[key] for key in _MIX),
    'augment.randaugment_magnitude': lambda s: s['augment.randaugment_layers'] > 0,
    'optimizer.learning_rate_per_256': lambda s: s['optimizer.learning_rate'] is None,
    'optimizer.agc_eps': lambda s: s['optimizer.agc_clipping'] < math.inf,
    'optimizer.agc_skip': lambda s: s['optimizer.agc_clipping'] < math.inf,
    'sam.ascent_fraction': lambda s: s['sam.rho'] > 0,
    'eval.every_epochs': lambda s: s['eval.every_steps'] is None,
}


def has_effect(key: str, settings: Settings) -> bool:
    """Whether another value of this setting would change anything in a run with these settings."""
    try:
        return key not in _CONDITIONS or _CONDITIONS[key](settings)
    except KeyError:  # Of a run older than the setting it hangs on, or of a variant that is no more.
        return True


def is_computed(key: str, settings: Settings) -> bool:
    """Whether a setting says what a run computes, not only how it is watched, compiled, or finds its data."""
    if key == 'data.dir':
        return settings.get('data.source') == 'folder'  # Which may hold other images.
    return not key.startswith(MAY_CHANGE)
