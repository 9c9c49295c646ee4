"""Mask R-CNN on scenes of garments and digits: `--config=scenes --config.data.dir=DIR`.

DIR is a set in the COCO format, `annotations/instances_train.json`, `train/` and the same of `val`, of images
of 128 px. `scenes` is a small NFNet, `scenes:NFResNet` and `scenes:ResNet` its twins by the same recipe.
"""

import ml_collections

from nfnets.configs import coco, default, digits


def get_config(network: str = 'NFNet') -> ml_collections.ConfigDict:
    """A recipe for 2 cores; the blocks and the optimizer are the paper's."""
    config = default.get_config()
    coco.set_detection(config)
    digits.set_small_network(config, network)
    # Four stages, for the levels of the pyramid.
    config.model.widths = (64, 128, 256, 512)
    config.model.depths = (1, 1, 2, 1)
    config.model.stochastic_depth_rate = 0.0
    if network in ('NFNet', 'BNNet'):  # Half as wide: their branches are twice as wide in their blocks.
        config.model.widths = (32, 64, 128, 256)
        config.model.group_width = 16
    if network == 'NFNet':
        config.optimizer.agc_clipping = 0.08  # As with configs/fashion_mnist.py.

    config.data.train_split = 'train'
    config.data.eval_split = 'val'
    config.data.train_size = 128
    config.data.eval_size = 128
    config.data.flip = False  # A mirrored digit is another sign.

    config.detection.scales = (0.8, 1.25)
    config.detection.most_objects = 10  # Scenes have up to 8.
    config.detection.channels = 48
    config.detection.hidden = 128
    config.detection.anchor_scale = 4.0  # 16, 32, 64 px and so on: objects are of 12 to 64.
    config.detection.most_of_level = 256
    config.detection.proposals = 128
    config.detection.regions = 48
    config.detection.detections = 24

    config.train.batch_size = 16
    config.train.steps = 3000
    config.train.precision = 'float32'  # On a CPU bfloat16 saves nothing.
    config.train.log_every_steps = 50
    config.optimizer.learning_rate = 0.04
    config.optimizer.warmup_steps = 200.0
    config.optimizer.ema_decay = 0.998

    config.eval.batch_size = 32
    config.eval.every_steps = 1000
    config.checkpoint.every_steps = 500
    return config
