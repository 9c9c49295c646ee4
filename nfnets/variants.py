"""The families of networks as data.

NFNets: F0..F7 of Brock et al. 2021 (arXiv 2102.06171, tables 1 and 6). F7 and the `+` variants, which are
wider, are those of the code released with the paper. ResNets: He et al. 2016 (arXiv 1512.03385, table 1, and
1603.05027 for 200), and the deep ones that Brock et al. 2021 (arXiv 2101.08692) look into.
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
    """

    widths: tuple[int, ...]
    depths: tuple[int, ...]
    train_size: int
    eval_size: int
    dropout_rate: float
    randaugment_magnitude: int
    group_width: int | None = 128


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


def get_variant(name: str, variants: Mapping[str, Variant] = VARIANTS) -> Variant:
    """The variant of that name, an NFNet's if not told otherwise.

    Raises:
      InputError: there is none.
    """
    if name not in variants:
        raise InputError(f'unknown variant {name!r}; there are {", ".join(variants)}')
    return variants[name]
