"""The `config.json` by which timm builds a published network (checked against timm 1.0.31)."""

import dataclasses
from typing import Any

from nfnets.data.augment import MEAN, STD
from nfnets.models.variants import NORMALIZER_FREE, REGNETS, RESNETS, VARIANTS
from nfnets.weights.about import About
from nfnets.weights.fit import Architecture

_PORTED = tuple(f'F{i}' for i in range(7))
_OWN = NORMALIZER_FREE.keys() - VARIANTS.keys() - RESNETS.keys() - REGNETS.keys()
# timm adds it to the variance of a kernel's weights: by default enough to change logits by a percent.
_EPSILON = 1e-12


def timm_builds(network: Architecture) -> bool:
    """Whether timm has this network: one of its own, or an NFNet of F0's widths, which its stem is for."""
    first = VARIANTS[_PORTED[0]]
    return network.name in _OWN or dataclasses.replace(network.variant, depths=first.depths) == first


def timm_config(network: Architecture, about: About) -> dict[str, Any]:
    """What `timm.create_model('local-dir:DIR', pretrained=True)` needs to know, for JSON.

    Args:
      network: one that timm builds.
      about: metadata of its parameters.
    """
    config: dict[str, Any] = {
        **({'architecture': network.name} if network.name in _OWN else _ported(network, about.activation)),
        'num_classes': network.num_classes,
        'pretrained_cfg': _pretrained(network, about),
    }
    if about.class_names is not None:
        config['label_names'] = about.class_names
    return config


def _ported(network: Architecture, activation: str | None) -> dict[str, Any]:
    """The architecture of an NFNet of F0's widths."""
    base = network.name if network.name in _PORTED else _PORTED[0]
    # timm lays them over those of the architecture.
    model_args: dict[str, Any] = {'act_layer': activation or 'gelu', 'std_conv_eps': _EPSILON}
    if base != network.name:
        model_args['depths'] = network.variant.depths
    return {
        'architecture': f'dm_nfnet_{base.lower()}',
        'num_features': 2 * network.variant.widths[-1],
        'model_args': model_args,
    }


def _pretrained(network: Architecture, about: About) -> dict[str, Any]:
    """How timm preprocesses images, as near to the network's own as it can."""
    config: dict[str, Any] = {
        'mean': MEAN,
        'std': STD,
        'interpolation': 'bicubic',
        'crop_mode': 'squash',
        'first_conv': 'stem.conv1' if network.network == 'NFNet' else 'stem.conv',
        'classifier': 'head.fc',
    }
    if about.preprocessing is not None:
        size, margin = about.preprocessing.size, about.preprocessing.margin
        if about.preprocessing.style == 'timm_center':
            config['crop_mode'] = 'center'
        train_size = about.train_size or size
        config |= {
            'input_size': (3, train_size, train_size),
            'test_input_size': (3, size, size),
            # timm resizes to the whole number below size / crop_pct.
            'crop_pct': size / (size + margin + 0.5),
        }
    return config
