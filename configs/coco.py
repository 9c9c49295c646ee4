"""Mask R-CNN on COCO: `--config=coco:NFResNet50`, `coco:ResNet50` or `coco:F0`, with `--config.data.dir=DIR`.

DIR holds `annotations/instances_train2017.json`, `train2017/` and the same of `val2017`. The schedule is that
of TensorFlow's Model Garden for ResNet-50: 22,500 steps of 64 images of 1024 px, a rate of 0.12 that falls
twice, scale jitter, 2000 and 1000 proposals, 512 regions. Start from a classifier of the same network by
`--config.init_from=CHECKPOINT`. Not run here.
"""

import ml_collections

from nfnets.config_rules import NOT_USED
from nfnets.configs import default
from nfnets.errors import InputError

# By name the network and its variant.
NETWORKS = {
    'NFResNet50': ('NFResNet', 'ResNet50'),
    'ResNet50': ('ResNet', 'ResNet50'),
    'F0': ('NFNet', 'F0'),
}
# AGC leaves alone what gives numbers, as it does a classifier's last layer (arXiv 2102.06171, section 4.1).
LAST_LAYERS = '/(objectness|shifts|logits)/w$'


def get_config(network: str = 'NFResNet50') -> ml_collections.ConfigDict:
    """The recipe for one network."""
    if network not in NETWORKS:
        raise InputError(f'coco:{network}: there are {", ".join(NETWORKS)}')
    config = default.get_config()
    set_detection(config)
    config.model.name, config.model.variant = NETWORKS[network]
    config.model.stochastic_depth_rate = 0.0
    config.data.train_split = 'train2017'
    config.data.eval_split = 'val2017'
    config.data.train_size = 1024
    config.data.eval_size = 1024

    config.train.batch_size = 64
    config.train.steps = 22_500
    config.optimizer.learning_rate = 0.12
    config.optimizer.warmup_steps = 500.0
    config.optimizer.drops = (2 / 3, 8 / 9)  # After 15,000 and 20,000 steps.
    config.optimizer.weight_decay = 4e-5
    config.optimizer.ema_decay = 0.9998
    if config.model.name == 'ResNet':
        config.optimizer.agc_clipping = float('inf')  # Its twins without normalization need it.

    config.eval.batch_size = 64
    config.eval.every_steps = 7500
    config.checkpoint.every_steps = 1500
    return config


def set_detection(config: ml_collections.ConfigDict) -> None:
    """Makes a config one of detection: what only classification uses is off."""
    config.task = 'detection'
    config.data.source = 'coco'
    config.data.name = ''
    config.update_from_flattened_dict(NOT_USED['detection'])
    config.optimizer.agc_skip = LAST_LAYERS
