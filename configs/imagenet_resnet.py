"""ResNets on ImageNet: `--config=imagenet_resnet:NFResNet`, or another that is a ResNet.

The recipe of the comparisons in arXiv 2102.06171, section 4.1: 90 epochs at a rate that grows with the batch.
What the paper does not say is as in the code released with it. `--config.model.variant=ResNet200` is another
depth, and with NFResNet `nf_resnet50` timm's, at timm's sizes; timm's own recipe for it is not published.
"""

import ml_collections

from nfnets.configs import default


def get_config(network: str = 'NFResNet') -> ml_collections.ConfigDict:
    """The recipe for one kind of network, with 50 layers."""
    config = default.get_config()
    config.model.name = network
    config.model.variant = 'ResNet50'
    config.model.stochastic_depth_rate = 0.0 if network == 'ResNet' else 0.1

    config.augment.mixup_alpha = 0.0
    config.augment.cutmix = False
    config.augment.randaugment_layers = 0

    config.train.epochs = 90.0
    config.optimizer.weight_decay = 1e-4
    if network != 'NFResNet':
        config.optimizer.agc_clipping = float('inf')  # The baselines are older than it.
    return config
