"""Normalizer-free networks: models, optimizer, input pipeline and training loop."""

import importlib
import importlib.metadata
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nfnets.inference.predict import Features, Prediction, Predictor, load
    from nfnets.models.nf_regnet import NFRegNet
    from nfnets.models.nf_resnet import NFResNet
    from nfnets.models.nfnet import NFNet
    from nfnets.models.variants import VARIANTS, Variant
    from nfnets.optim.agc import adaptive_grad_clip
    from nfnets.weights.load import Weights, load_checkpoint

__all__ = [
    'VARIANTS',
    'Features',
    'NFNet',
    'NFRegNet',
    'NFResNet',
    'Prediction',
    'Predictor',
    'Variant',
    'Weights',
    'adaptive_grad_clip',
    'load',
    'load_checkpoint',
]
_MODULES = {
    'VARIANTS': 'models.variants',
    'Features': 'inference.predict',
    'NFNet': 'models.nfnet',
    'NFRegNet': 'models.nf_regnet',
    'NFResNet': 'models.nf_resnet',
    'Prediction': 'inference.predict',
    'Predictor': 'inference.predict',
    'Variant': 'models.variants',
    'Weights': 'weights.load',
    'adaptive_grad_clip': 'optim.agc',
    'load': 'inference.predict',
    'load_checkpoint': 'weights.load',
}


def __getattr__(name: str) -> Any:
    # Imported where used: a network alone is there sooner, and no TensorFlow, which images are read with.
    if name == '__version__':
        return importlib.metadata.version(__name__)
    if name not in _MODULES:
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    return getattr(importlib.import_module(f'{__name__}.{_MODULES[name]}'), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_MODULES, '__version__'})
