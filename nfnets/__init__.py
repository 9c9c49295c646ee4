"""Normaliser-free networks: models, optimiser, input pipeline and training loop."""

from nfnets.models.nf_resnet import NFResNet
from nfnets.models.nfnet import NFNet
from nfnets.optim.agc import adaptive_grad_clip
from nfnets.variants import VARIANTS, Variant
from nfnets.weights.load import Weights, load_checkpoint

__all__ = ['VARIANTS', 'NFNet', 'NFResNet', 'Variant', 'Weights', 'adaptive_grad_clip', 'load_checkpoint']
