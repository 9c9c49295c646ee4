"""Normaliser-free networks: models, optimiser, input pipeline and training loop."""

from typing import TYPE_CHECKING, Any

from nfnets.models.nf_resnet import NFResNet
from nfnets.models.nfnet import NFNet
from nfnets.optim.agc import adaptive_grad_clip
from nfnets.variants import VARIANTS, Variant
from nfnets.weights.load import Weights, load_checkpoint

if TYPE_CHECKING:
    from nfnets.predict import Prediction, Predictor

__all__ = [
    'VARIANTS',
    'NFNet',
    'NFResNet',
    'Prediction',
    'Predictor',
    'Variant',
    'Weights',
    'adaptive_grad_clip',
    'load_checkpoint',
]
_LATER = ('Prediction', 'Predictor')  # Imported where used: their TensorFlow takes seconds.


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    from nfnets import predict

    return getattr(predict, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_LATER})
