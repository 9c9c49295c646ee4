"""Scikit-learn's handwritten digits: a small network learns real images on any machine in a minute.

`--config=digits` is an NFNet, `digits:NFResNet` another network of `model.name`. All
ResNets have the same widths and depths.
"""

import ml_collections

from nfnets.configs import default


def get_config(network: str = 'NFNet') -> ml_collections.ConfigDict:
    """Widths, sizes and augmentation for 8 x 8 px digits; the blocks and the optimizer are the paper's."""
    config = default.get_config()
    set_small_network(config, network)
    config.model.dropout_rate = 0.0
    config.model.stochastic_depth_rate = 0.0

    config.data.source = 'digits'
    config.data.eval_split = 'eval'
    config.data.train_size = 32
    config.data.eval_size = 32
    config.data.eval_margin = 0  # Digits fill their image.
    config.data.crop_area = (0.7, 1.0)
    config.data.flip = False  # A mirrored digit is another sign.

    config.augment.cutmix = False
    config.augment.partners = 'batch'
    config.augment.randaugment_layers = 0

    config.train.batch_size = 64
    config.train.steps = 400
    config.train.precision = 'float32'
    config.train.log_every_steps = 20

    config.optimizer.learning_rate = 0.5
    config.optimizer.warmup_epochs = 2.0
    config.optimizer.ema_decay = 0.99

    config.eval.every_steps = 100
    config.checkpoint.every_steps = 100
    return config


def set_small_network(config: ml_collections.ConfigDict, network: str) -> None:
    """Sets a network of `model.name`, of two stages for images of 16 to 32 px, and its clipping."""
    config.model.name = network
    config.model.group_width = None  # The variant's.
    if network in ('NFNet', 'BNNet'):
        config.model.widths = (64, 128)
        config.model.depths = (1, 2)
        config.model.group_width = 32
    elif network == 'NFRegNet':
        config.model.variant = 'B0'
        config.model.widths = (24, 64)
        config.model.depths = (1, 2)
    else:
        config.model.variant = 'ResNet50'
        config.model.widths = (64, 128)
        config.model.depths = (2, 2)
    if network in ('NFResNet', 'NFRegNet'):
        config.optimizer.agc_clipping = 0.04  # Smaller batches want a larger limit (section 4.1, figure 2).
    elif network in ('ResNet', 'BNNet'):
        config.optimizer.agc_clipping = float('inf')
