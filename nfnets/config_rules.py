"""Which values each setting may have by itself, and which settings a task leaves alone."""

import math
from collections.abc import Callable
from typing import Any

from nfnets.data.augment import PARTNERS
from nfnets.data.preprocessing import STYLES
from nfnets.losses import LOSSES
from nfnets.models.activations import ACTIVATIONS
from nfnets.models.networks import NETWORKS

MIXTURE_FIELDS = {'source': str, 'name': str, 'dir': str, 'split': str, 'weight': float}

_Rule = tuple[Callable[[Any], bool], str]
POSITIVE: _Rule = (lambda v: 0 < v < math.inf, 'more than 0 and finite')
_LIMIT: _Rule = (lambda v: v > 0, 'more than 0; inf is no limit')
_NOT_NEGATIVE: _Rule = (lambda v: 0 <= v < math.inf, '0 or more and finite')
_FRACTION: _Rule = (lambda v: 0 <= v <= 1, 'from 0 to 1')
_RATE: _Rule = (lambda v: 0 <= v < 1, 'from 0 to below 1')
_WHOLE_NUMBERS: _Rule = (
    lambda v: len(v) > 0 and all(isinstance(x, int) and x > 0 for x in v),
    'whole numbers above 0, one for each stage, as in (256,512)',
)


_DETECTION_SIZES = (
    *('most_objects', 'channels', 'hidden', 'anchor_scale'),
    *('most_of_level', 'proposals', 'regions', 'detections'),
)


def _one_of(*choices: str) -> _Rule:
    return lambda v: v in choices, f'one of {", ".join(choices)}'


# For each task the settings that only others use, with the value that says so.
NOT_USED: dict[str, dict[str, Any]] = {
    'classification': {},
    'detection': {
        'model.dropout_rate': 0.0,
        'data.eval_margin': 0,
        'data.crop_area': (1.0, 1.0),
        'data.repeats': 1,
        'augment.mixup_alpha': 0.0,
        'augment.cutmix': False,
        'augment.randaugment_layers': 0,
        'train.loss': 'softmax',
        'train.label_smoothing': 0.0,
        'probe.source': None,
    },
}

RULES: dict[str, _Rule] = {
    'task': _one_of(*NOT_USED),
    'seed': _NOT_NEGATIVE,
    'model.name': _one_of(*NETWORKS),
    'model.widths': _WHOLE_NUMBERS,
    'model.depths': _WHOLE_NUMBERS,
    'model.group_width': POSITIVE,
    'model.activation': _one_of(*ACTIVATIONS),
    'model.dropout_rate': _RATE,
    'model.stochastic_depth_rate': _FRACTION,
    'model.num_classes': POSITIVE,
    'data.train_size': POSITIVE,
    'data.eval_size': POSITIVE,
    'data.eval_margin': _NOT_NEGATIVE,
    'data.eval_style': _one_of(*STYLES),
    'data.repeats': POSITIVE,
    'data.crop_area': (
        lambda v: len(v) == 2 and 0 < v[0] <= v[1] <= 1,
        'two fractions above 0 and up to 1, the smaller first',
    ),
    'augment.mixup_alpha': _NOT_NEGATIVE,
    'augment.partners': _one_of(*PARTNERS),
    'augment.randaugment_layers': _NOT_NEGATIVE,
    'augment.randaugment_magnitude': (lambda v: 0 <= v <= 30, 'from 0 to 30'),
    'probe.shots': (
        lambda v: len(v) > 0 and all(isinstance(x, int) and x > 0 for x in v),
        'whole numbers above 0, as in (1,5)',
    ),
    'train.batch_size': POSITIVE,
    'train.accumulate_steps': POSITIVE,
    'train.epochs': POSITIVE,
    'train.steps': POSITIVE,
    'train.precision': _one_of('float32', 'bfloat16'),
    'train.all_reduce': _one_of('float32', 'bfloat16'),
    'train.loss': _one_of(*LOSSES),
    'train.label_smoothing': _RATE,
    'train.log_every_steps': POSITIVE,
    'optimizer.learning_rate_per_256': POSITIVE,
    'optimizer.learning_rate': POSITIVE,
    'optimizer.warmup_epochs': _NOT_NEGATIVE,
    'optimizer.warmup_steps': _NOT_NEGATIVE,
    'optimizer.drops': (
        lambda v: all(0 < x < 1 for x in v) and list(v) == sorted(v),
        'fractions of the run above 0 and below 1, the smaller first, as in (0.6,0.9)',
    ),
    'optimizer.momentum': _RATE,
    'optimizer.weight_decay': _NOT_NEGATIVE,
    'optimizer.agc_clipping': _LIMIT,
    'optimizer.agc_eps': POSITIVE,
    'optimizer.max_grad_norm': _LIMIT,
    'optimizer.lars_trust': _NOT_NEGATIVE,
    'optimizer.ema_decay': _FRACTION,
    'detection.scales': (
        lambda v: len(v) == 2 and 0 < v[0] <= v[1] < math.inf,
        'two numbers above 0, the smaller first, as in (0.8,1.25)',
    ),
    **{f'detection.{name}': POSITIVE for name in _DETECTION_SIZES},
    'sam.rho': _NOT_NEGATIVE,
    'sam.ascent_fraction': (lambda v: 0 < v <= 1, 'above 0 and up to 1'),
    'eval.batch_size': POSITIVE,
    'eval.every_epochs': POSITIVE,
    'eval.every_steps': POSITIVE,
    'checkpoint.every_steps': POSITIVE,
    'checkpoint.keep': POSITIVE,
}


def allowed(key: str) -> str:
    """The allowed values of a setting that has a rule, for messages."""
    return RULES[key][1]
