"""ImageNet as in the paper: `--config=imagenet:F0` .. `F7`, `F0+` .. `F7+`; `F5-SAM` with SAM.

`nfnet_l0` and `eca_nfnet_l0` .. `l2`, timm's light ones, are trained by the paper's recipe for the network of
the same depths, at timm's sizes: the recipes of timm's own weights are not published with them.
"""

import ml_collections

from nfnets.configs import default
from nfnets.models.variants import get_variant

SAM_RHO = 0.05  # What the paper says of fine-tuning.


def get_config(variant: str = 'F0') -> ml_collections.ConfigDict:
    """The paper's recipe for one variant; what depends on the variant follows from its name."""
    name = variant.removesuffix('-SAM')
    get_variant(name)  # An unknown one fails at once, not after the data is found.
    config = default.get_config()
    config.model.variant = name
    if name != variant:
        config.sam.rho = SAM_RHO
    return config
