"""The paper's ladder (arXiv 2102.06171, table 2) on ImageNet: each rung adds one ingredient.

`--config=imagenet_ladder:F0-mixup` is F0 with all up to MixUp. From the bottom: baseline, with the
default widths, then widths, second_conv, mixup, randaugment and cutmix, which is `imagenet`. Then
there is batch_norm, the top with batch normalization instead (table 6). The paper has F0 to F3.
"""

from typing import Any

import ml_collections

from nfnets.configs import imagenet
from nfnets.errors import InputError

# What a rung adds, by the settings without it.
LACKING: dict[str, dict[str, Any]] = {
    'widths': {'model.widths': (256, 512, 1024, 2048)},
    'second_conv': {'model.second_conv': False},
    'mixup': {'augment.mixup_alpha': 0.0},
    'randaugment': {'augment.randaugment_layers': 0},
    'cutmix': {'augment.cutmix': False},
}
BATCH_NORM = {'model.name': 'BNNet', 'optimizer.agc_clipping': float('inf')}
RUNGS = ('baseline', *LACKING, 'batch_norm')


def settings(rung: str) -> dict[str, Any]:
    """The settings that a rung changes from the whole recipe, by key."""
    if rung == 'batch_norm':
        return dict(BATCH_NORM)
    above = list(LACKING)[RUNGS.index(rung) :]
    return {key: value for ingredient in above for key, value in LACKING[ingredient].items()}


def get_config(name: str = 'F0-cutmix') -> ml_collections.ConfigDict:
    """The recipe of one rung for one variant."""
    variant, _, rung = name.partition('-')
    if rung not in RUNGS:
        raise InputError(f'unknown rung {rung!r} of {name!r}; there are {", ".join(RUNGS)}, as in F0-mixup')
    config = imagenet.get_config(variant)
    config.update_from_flattened_dict(settings(rung))
    return config
