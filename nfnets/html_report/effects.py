"""Which settings matter to a run, given its others."""

import math
from collections.abc import Callable

from ml_collections import FrozenConfigDict as Config

from nfnets.config import is_its_variant
from nfnets.data.augment import Augmentation
from nfnets.run.config_file import may_change

# When a setting has an effect; those not named here always have one.
_CONDITIONS: dict[str, Callable[[Config], bool]] = {
    'model.variant': is_its_variant,  # Else the name says nothing that other settings do not.
    'model.second_conv': lambda c: c.model.name in ('NFNet', 'BNNet'),
    'data.name': lambda c: c.data.source == 'tfds',
    'data.dir': lambda c: c.data.source != 'digits',
    'data.train_split': lambda c: not c.data.mixture,
    **{
        f'probe.{name}': lambda c: c.probe.source is not None
        for name in ('train_split', 'eval_split', 'shots', 'linear')
    },
    'probe.name': lambda c: c.probe.source == 'tfds',
    'probe.dir': lambda c: c.probe.source not in (None, 'digits'),
    'augment.partners': lambda c: Augmentation(**c.augment).mixes,
    'augment.randaugment_magnitude': lambda c: c.augment.randaugment_layers > 0,
    'optimizer.learning_rate_per_256': lambda c: c.optimizer.learning_rate is None,
    'optimizer.agc_eps': lambda c: c.optimizer.agc_clipping < math.inf,
    'optimizer.agc_skip': lambda c: c.optimizer.agc_clipping < math.inf,
    'sam.ascent_fraction': lambda c: c.sam.rho > 0,
    'eval.every_epochs': lambda c: c.eval.every_steps is None,
}


def has_effect(key: str, config: Config) -> bool:
    """Whether another value of a setting, by key such as 'train.steps', would change anything in a run."""
    try:
        return key not in _CONDITIONS or _CONDITIONS[key](config)
    except (KeyError, AttributeError, TypeError, ValueError):  # Of a variant that is no more.
        return True


def is_computed(key: str, config: Config) -> bool:
    """Whether a setting says what a run computes, not only how it is watched, compiled, or finds its data."""
    if key == 'data.dir':
        return config.data.source in ('folder', 'webdataset')  # Which may hold other images.
    return key.startswith('data.mixture.') or not may_change(key)
