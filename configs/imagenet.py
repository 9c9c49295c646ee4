"""ImageNet as in the paper: `--config=configs/imagenet.py:F0` .. `F7`, `F0+` .. `F7+`."""

import ml_collections

from configs import default
from nfnets.variants import get_variant


def get_config(variant: str = 'F0') -> ml_collections.ConfigDict:
    """The paper's recipe for one variant; what depends on the variant follows from its name."""
    get_variant(variant)  # A mistake shows at once, not after the data is found.
    config = default.get_config()
    config.model.variant = variant
    return config
