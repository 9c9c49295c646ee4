"""The config of a training step whose time is asked for, not its result, on ImageNet or as much."""

import ml_collections

from nfnets import config as config_lib
from nfnets.data.imagenet import NUM_CLASSES, NUM_TRAIN_IMAGES


def complete(
    config: ml_collections.ConfigDict, *, num_devices: int, augment: bool, num_classes: int = NUM_CLASSES
) -> ml_collections.FrozenConfigDict:
    """Checks and completes a config; without augmentation unless it is asked for."""
    if not augment:
        config.augment.mixup_alpha = 0.0
        config.augment.cutmix = False
        config.augment.randaugment_layers = 0
    config_lib.check(config)
    # Steps and schedule follow from the size of the data; the time of a step does not.
    return config_lib.complete(
        config, num_examples=NUM_TRAIN_IMAGES, num_classes=num_classes, num_devices=num_devices
    )
