"""NF-RegNets on ImageNet: `--config=imagenet_regnet:B0` .. `B8` (arXiv 2101.08692).

The recipe is that of the code released with arXiv 2102.06171, which is for B0 to B5; it clips no gradients.
timm's `nf_regnet_b1` has that of B1 at timm's sizes, not timm's own, which is not published with its weights.
"""

import ml_collections

from nfnets.configs import default
from nfnets.models.variants import NF_REGNETS, get_variant


def get_config(variant: str = 'B0') -> ml_collections.ConfigDict:
    """The recipe for one variant."""
    get_variant(variant, NF_REGNETS)  # An unknown one fails at once, not after the data is found.
    config = default.get_config()
    config.model.name = 'NFRegNet'
    config.model.variant = variant
    config.model.stochastic_depth_rate = 0.1

    config.augment.randaugment_layers = 0

    config.train.batch_size = 1024
    config.optimizer.weight_decay = 5e-5 + 1e-5 * int(variant[-1])
    config.optimizer.agc_clipping = float('inf')
    return config
