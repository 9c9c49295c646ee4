"""Scales of timm's own networks, which differ from ours for the same function (timm 1.0.31, `NormFreeNet`).

timm scales each convolution by the activation's gamma instead of each activation, so also the first one and
the last, which see no activation, and not what the classifier sees. And it adds 1e-5 to the variance of a
kernel. Gains and the classifier's weights take up both: with v the variance of an output channel's kernel and
N its fan-in,

    gain = timm's gain * sqrt(max(v, 1e-4 / N) / (v + 1e-5)), times gamma in the first and the last,
    linear/w = timm's head.fc.weight / gamma.

All else is the same bit by bit. There and back, these are the same to the rounding of their type.
"""

import math
from collections.abc import Mapping

import numpy as np

from nfnets.models.activations import GAMMAS
from nfnets.models.layers import FLOOR
from nfnets.models.param_names import is_classifier
from nfnets.models.variants import Variant
from nfnets.weights.pickles import Refused
from nfnets.weights.released import Params

_EPS = 1e-5
_WITHOUT_ACTIVATION = ('stem_conv0', 'initial_conv', 'final_conv')  # Before them.


def from_timms_scales(params: Params, variant: Variant) -> Params:
    """The parameters of our network of a variant, for timm's by our names.

    Raises:
      Refused: the shapes are not those of convolutions.
    """
    try:
        return _scaled(params, variant, 1)
    except (KeyError, ValueError, IndexError) as error:
        raise Refused(f'it has a convolution that is none: {error}') from error


def to_timms_scales(params: Mapping[str, Mapping[str, np.ndarray]], variant: Variant) -> Params:
    """Undoes `from_timms_scales`."""
    return _scaled(params, variant, -1)


def _scaled(params: Mapping[str, Mapping[str, np.ndarray]], variant: Variant, power: int) -> Params:
    assert variant.activation is not None
    gamma = GAMMAS[variant.activation]
    scaled: Params = {}
    for module, names in params.items():
        layer = module.rpartition('/')[2]
        scaled[module] = dict(names)
        if 'gain' in names:
            factor = _of_variance(names['w']) * (gamma if layer in _WITHOUT_ACTIVATION else 1.0)
            scaled[module]['gain'] = _times(names['gain'], factor**power)
        elif is_classifier(module):
            scaled[module]['w'] = _times(names['w'], gamma**-power)
    return scaled


def _of_variance(w: np.ndarray) -> np.ndarray:
    """How much smaller timm's standardized kernel is than ours, for each output channel of [H, W, I, O]."""
    variance = np.var(w, axis=(0, 1, 2), dtype=np.float64)
    fan_in = math.prod(w.shape[:3])
    return np.sqrt(np.maximum(variance, FLOOR / fan_in) / (variance + _EPS))


def _times(value: np.ndarray, factor: np.ndarray | float) -> np.ndarray:
    return np.asarray(value.astype(np.float64) * factor, value.dtype)
