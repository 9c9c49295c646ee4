"""The families of networks as data: the architecture of each member, and the recipe that goes with its size.

NFNets: F0..F7 of Brock et al. 2021 (arXiv 2102.06171, tables 1 and 6). F7 and the `+` variants, which are
wider, are those of the code released with the paper. ResNets: He et al. 2016 (arXiv 1512.03385, table 1, and
1603.05027 for 200), and the deep ones that Brock et al. 2021 (arXiv 2101.08692) look into. RegNets: theirs.
By names as `nfnet_l0` those of timm that it has weights for (its 1.0.31).
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

from nfnets.errors import InputError


@dataclasses.dataclass(frozen=True)
class Variant:
    """The architecture of one member of a family, or of a network with the family's blocks.

    Attributes:
      widths: output channels of each stage.
      depths: residual blocks of each stage; as many as `widths`.
      group_width: channels of one group of the 3x3 convolutions; None: they are not grouped.
      second_conv: whether an NFNet's blocks have a second 3x3 convolution; other networks have one.
      bottleneck_ratio: width of an NFNet's 3x3 convolutions to the block's; None: a half.
      width_multiple: what widths within the blocks of an NF-RegNet are rounded to multiples of; None: they
        are rounded down.
      attention: of NFNets and NF-RegNets, 'squeeze_excite' or 'eca', see `layers`.
      squeeze_ratio: hidden width of squeeze-excite to its channels.
      features_ratio: channels of the last convolution to those of the last stage; None: the network's own.
      padding: of strided convolutions and of a ResNet's stem, see `convolution.pads`.
      pooled_shortcut: whether an NF-ResNet's strided shortcuts average 2 x 2 px; else they take one of them.
      skip_gain: whether each block scales its branch by a learned scalar that starts at 0. Else the gain of
        its last convolution starts at 0.
      activation: None: the network's own.
    """

    widths: tuple[int, ...]
    depths: tuple[int, ...]
    group_width: int | None = 128
    second_conv: bool = True
    bottleneck_ratio: float | None = None
    width_multiple: int | None = None
    attention: str = 'squeeze_excite'
    squeeze_ratio: float = 0.5
    features_ratio: float | None = None
    padding: str = 'same'
    pooled_shortcut: bool = False
    skip_gain: bool = True
    activation: str | None = None


# What shapes of parameters show of a variant, and a config sets one by one.
SHOWN = ('widths', 'depths', 'group_width', 'second_conv')


@dataclasses.dataclass(frozen=True)
class Recipe:
    """Training and evaluation settings of one member of a family.

    Attributes:
      train_size: side of the training images, px.
      eval_size: side of the evaluation images, px.
      dropout_rate: fraction of the pooled features dropped before the classifier in training, 0..1.
      randaugment_magnitude: strength of RandAugment, as the paper counts it (F0: 5, F3: 15).
      eval_style: of preprocessing in evaluation, see `data.preprocessing`.
      eval_crops: fractions of the resized image that evaluation keeps, at the train size or any other and at
        the eval size; None: as of the style.
    """

    train_size: int
    eval_size: int
    dropout_rate: float = 0.0
    randaugment_magnitude: int = 0
    eval_style: str = 'paper'
    eval_crops: tuple[float, float] | None = None


_SUFFIXES = {'': (256, 512, 1536, 1536), '+': (384, 768, 2048, 2048)}  # With their widths.
_DEPTHS = (1, 2, 6, 3)  # Of F0; F1 has twice as many blocks in each stage, F2 three times, ...
_NFNET_RECIPES = (
    Recipe(192, 256, 0.2, 5),
    Recipe(224, 320, 0.3, 10),
    Recipe(256, 352, 0.4, 10),
    Recipe(320, 416, 0.4, 15),
    Recipe(384, 512, 0.5, 15),
    Recipe(416, 544, 0.5, 15),
    Recipe(448, 576, 0.5, 15),
    Recipe(480, 608, 0.5, 15),
)
VARIANTS: dict[str, Variant] = {
    f'F{index}{suffix}': Variant(widths, tuple(depth * (index + 1) for depth in _DEPTHS))
    for suffix, widths in _SUFFIXES.items()
    for index in range(len(_NFNET_RECIPES))
}

# What timm's networks have in common (`timm/models/nfnet.py`).
_TIMM: dict[str, Any] = {'padding': 'symmetric', 'skip_gain': False}
_LIGHT: dict[str, Any] = {**_TIMM, 'group_width': 64, 'bottleneck_ratio': 0.25, 'activation': 'silu'}


def _light(member: str, **settings: Any) -> Variant:
    """A light NFNet of timm's with widths and depths of a member of the family."""
    return dataclasses.replace(VARIANTS[member], **_LIGHT, **settings)


NFNETS: dict[str, Variant] = {
    **VARIANTS,
    'nfnet_l0': _light('F0', squeeze_ratio=0.25, features_ratio=1.5),
    'eca_nfnet_l0': _light('F0', attention='eca', features_ratio=1.5),
    'eca_nfnet_l1': _light('F1', attention='eca'),
    'eca_nfnet_l2': _light('F2', attention='eca'),
}

_RESNET_DEPTHS = {
    50: (3, 4, 6, 3),
    101: (3, 4, 23, 3),
    152: (3, 8, 36, 3),
    200: (3, 24, 36, 3),
    288: (24, 24, 24, 24),
    600: (50, 50, 50, 50),
}
RESNETS: dict[str, Variant] = {
    f'ResNet{number}': Variant((256, 512, 1024, 2048), depths, group_width=None)
    for number, depths in _RESNET_DEPTHS.items()
}
NF_RESNETS: dict[str, Variant] = {
    **RESNETS,
    'nf_resnet50': dataclasses.replace(RESNETS['ResNet50'], **_TIMM, pooled_shortcut=True, activation='relu'),
}

_REGNET_FRACTION = 0.75  # Of the channels in the table.
_REGNETS: dict[str, tuple[tuple[int, ...], tuple[int, ...], Recipe]] = {
    'B0': ((48, 104, 208, 440), (1, 3, 6, 6), Recipe(192, 224, 0.2)),
    'B1': ((48, 104, 208, 440), (2, 4, 7, 7), Recipe(224, 256, 0.2)),
    'B2': ((56, 112, 232, 488), (2, 4, 8, 8), Recipe(240, 272, 0.3)),
    'B3': ((56, 128, 248, 528), (2, 5, 9, 9), Recipe(288, 320, 0.3)),
    'B4': ((64, 144, 288, 616), (2, 6, 11, 11), Recipe(320, 384, 0.4)),
    'B5': ((80, 168, 336, 704), (3, 7, 14, 14), Recipe(384, 456, 0.4)),
    'B6': ((88, 184, 376, 792), (3, 8, 16, 16), Recipe(448, 528, 0.5)),
    'B7': ((96, 208, 416, 880), (4, 10, 19, 19), Recipe(512, 600, 0.5)),
    'B8': ((104, 232, 456, 968), (4, 11, 22, 22), Recipe(600, 672, 0.5)),
}
REGNETS: dict[str, Variant] = {
    name: Variant(tuple(int(width * _REGNET_FRACTION) for width in widths), depths, group_width=8)
    for name, (widths, depths, _) in _REGNETS.items()
}
NF_REGNETS: dict[str, Variant] = {
    **REGNETS,
    'nf_regnet_b1': Variant(
        (40, 80, 160, 328),  # The table's three quarters, rounded to multiples of 8.
        (2, 4, 7, 7),
        group_width=8,
        width_multiple=8,
        features_ratio=960 / 328,
        activation='silu',
        **_TIMM,
    ),
}

NORMALIZER_FREE: dict[str, Variant] = {**NFNETS, **NF_REGNETS, **NF_RESNETS}

# Sizes and crops are those of timm's weights. Its recipes are not published as such: dropout and RandAugment
# are those of the paper's network of the same depths.
_TIMM_RECIPES = {
    'nfnet_l0': Recipe(224, 288, 0.2, 5, 'timm_center', (0.9, 1.0)),
    'eca_nfnet_l0': Recipe(224, 288, 0.2, 5, 'timm_center', (0.9, 1.0)),
    'eca_nfnet_l1': Recipe(256, 320, 0.3, 10, 'timm_center', (0.9, 1.0)),
    'eca_nfnet_l2': Recipe(320, 384, 0.4, 10, 'timm_center', (0.9, 1.0)),
    'nf_regnet_b1': Recipe(256, 288, 0.2, 0, 'timm_center', (0.9, 0.9)),
    'nf_resnet50': Recipe(256, 288, 0.0, 0, 'timm_center', (0.94, 0.94)),
}
RECIPES: dict[str, Recipe] = {
    **{name: _NFNET_RECIPES[int(name[1])] for name in VARIANTS},
    **dict.fromkeys(RESNETS, Recipe(224, 224)),
    **{name: recipe for name, (_, _, recipe) in _REGNETS.items()},
    **_TIMM_RECIPES,
}


def get_variant(name: str, variants: Mapping[str, Variant] = NFNETS) -> Variant:
    """The variant of a name, an NFNet's by default.

    Raises:
      InputError: there is none.
    """
    if name not in variants:
        raise InputError(f'unknown variant {name!r}; there are {", ".join(variants)}')
    return variants[name]


def have_same_blocks(variant: Variant, other: Variant) -> bool:
    """Whether two variants of a network differ at most in what shapes show."""
    return dataclasses.replace(variant, **{name: getattr(other, name) for name in SHOWN}) == other


def choose(
    variant: str | Variant, variants: Mapping[str, Variant], dropout_rate: float | None
) -> tuple[Variant, float]:
    """The variant that a network was asked for, and its dropout rate.

    Args:
      variant: name or `Variant`.
      variants: those with names.
      dropout_rate: None: that of the named variant's recipe, 0 for one without a name.

    Raises:
      InputError: there is no variant of that name.
    """
    if isinstance(variant, Variant):
        return variant, dropout_rate or 0.0
    chosen = get_variant(variant, variants)
    return chosen, RECIPES[variant].dropout_rate if dropout_rate is None else dropout_rate
