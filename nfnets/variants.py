"""The families of networks as data.

NFNets: F0..F7 of Brock et al. 2021 (arXiv 2102.06171, tables 1 and 6). F7 and the `+` variants, which are
wider, are those of the code released with the paper. ResNets: He et al. 2016 (arXiv 1512.03385, table 1, and
1603.05027 for 200), and the deep ones that Brock et al. 2021 (arXiv 2101.08692) look into. RegNets: theirs.
"""

import dataclasses
from collections.abc import Mapping

from nfnets.errors import InputError


@dataclasses.dataclass(frozen=True)
class Variant:
    """What one member of the family fixes: its architecture and the recipe that goes with its size.

    Attributes:
      widths: output channels of each stage.
      depths: residual blocks of each stage; as long as `widths`.
      group_width: channels of one group of the 3x3 convolutions; None: they are not grouped.
      train_size: side of the training images, px.
      eval_size: side of the evaluation images, px.
      dropout_rate: share of the pooled features dropped before the classifier in training, 0..1.
      randaugment_magnitude: strength of RandAugment, as the paper counts it (F0: 5, F3: 15).
      second_conv: whether an NFNet's blocks have a second 3x3 convolution; other networks have one.
    """

    widths: tuple[int, ...]
    depths: tuple[int, ...]
    train_size: int
    eval_size: int
    dropout_rate: float
    randaugment_magnitude: int
    group_width: int | None = 128
    second_conv: bool = True


_DEPTHS = (1, 2, 6, 3)  # of F0; F1 has twice as many blocks in each stage, F2 three times, ...
_WIDTHS = (256, 512, 1536, 1536)
_PLUS_WIDTHS = (384, 768, 2048, 2048)

# Index in the family: train px, test px, dropout rate, RandAugment magnitude.
_RECIPES = (
    (192, 256, 0.2, 5),
    (224, 320, 0.3, 10),
    (256, 352, 0.4, 10),
    (320, 416, 0.4, 15),
    (384, 512, 0.5, 15),
    (416, 544, 0.5, 15),
    (448, 576, 0.5, 15),
    (480, 608, 0.5, 15),
)


def _variant(index: int, widths: tuple[int, ...]) -> Variant:
    depths = tuple(depth * (index + 1) for depth in _DEPTHS)
    return Variant(widths, depths, *_RECIPES[index])


VARIANTS: dict[str, Variant] = {
    f'F{index}{suffix}': _variant(index, widths)
    for suffix, widths in (('', _WIDTHS), ('+', _PLUS_WIDTHS))
    for index in range(len(_RECIPES))
}


_RESNET_WIDTHS = (256, 512, 1024, 2048)
_RESNET_DEPTHS = {
    50: (3, 4, 6, 3),
    101: (3, 4, 23, 3),
    152: (3, 8, 36, 3),
    200: (3, 24, 36, 3),
    288: (24, 24, 24, 24),
    600: (50, 50, 50, 50),
}
RESNETS: dict[str, Variant] = {
    f'ResNet{number}': Variant(_RESNET_WIDTHS, depths, 224, 224, 0.0, 0, group_width=None)
    for number, depths in _RESNET_DEPTHS.items()
}

_REGNET_SHARE = 0.75  # Of the channels in the table.
_REGNET_SIZES: dict[str, tuple[tuple[int, ...], tuple[int, ...], int, int, float]] = {
    'B0': ((48, 104, 208, 440), (1, 3, 6, 6), 192, 224, 0.2),
    'B1': ((48, 104, 208, 440), (2, 4, 7, 7), 224, 256, 0.2),
    'B2': ((56, 112, 232, 488), (2, 4, 8, 8), 240, 272, 0.3),
    'B3': ((56, 128, 248, 528), (2, 5, 9, 9), 288, 320, 0.3),
    'B4': ((64, 144, 288, 616), (2, 6, 11, 11), 320, 384, 0.4),
    'B5': ((80, 168, 336, 704), (3, 7, 14, 14), 384, 456, 0.4),
    'B6': ((88, 184, 376, 792), (3, 8, 16, 16), 448, 528, 0.5),
    'B7': ((96, 208, 416, 880), (4, 10, 19, 19), 512, 600, 0.5),
    'B8': ((104, 232, 456, 968), (4, 11, 22, 22), 600, 672, 0.5),
}
REGNETS: dict[str, Variant] = {
    name: Variant(
        tuple(int(width * _REGNET_SHARE) for width in widths), depths, train, test, rate, 0, group_width=8
    )
    for name, (widths, depths, train, test, rate) in _REGNET_SIZES.items()
}


def get_variant(name: str, variants: Mapping[str, Variant] = VARIANTS) -> Variant:
    """The variant of that name, an NFNet's if not told otherwise.

    Raises:
      InputError: there is none.
    """
    if name not in variants:
        raise InputError(f'unknown variant {name!r}; there are {", ".join(variants)}')
    return variants[name]
