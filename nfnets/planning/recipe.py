"""The config of a variant's training on ImageNet, whichever kind of network it is of."""

import ml_collections

from nfnets.configs import imagenet, imagenet_regnet, imagenet_resnet
from nfnets.models.variants import NF_REGNETS, NFNETS


def imagenet_config(variant: str, *, sam: bool = False) -> ml_collections.ConfigDict:
    """The recipe of one of `NORMALIZER_FREE`, perhaps with the paper's SAM."""
    if variant in NFNETS:
        config = imagenet.get_config(variant)
    elif variant in NF_REGNETS:
        config = imagenet_regnet.get_config(variant)
    else:
        config = imagenet_resnet.get_config('NFResNet')
        config.model.variant = variant
    if sam:
        config.sam.rho = imagenet.SAM_RHO
    return config
