"""Preprocessing of images in evaluation, as checkpoints record it."""

import dataclasses

from nfnets.models.variants import Recipe

STYLES = ('paper', 'timm', 'timm_center')
_PAPER_MARGIN = 32
# timm resizes to int(size / crop_pct) px, with a crop_pct of each variant's own; by eval size.
_TIMM_RESIZED = {256: 284, 320: 351, 352: 382, 416: 442, 512: 538, 544: 570, 576: 602}
_TIMM_CROP_FRACTION = 0.9  # Of other sizes.


@dataclasses.dataclass(frozen=True)
class Preprocessing:
    """An image is resized to size + margin, and the center cropped.

    Attributes:
      size: side of the network's input, px.
      margin: what the resized image exceeds `size` by, px.
      style: 'paper': the whole image becomes a square, whatever its aspect, bicubic without antialiasing,
        JPEG by TensorFlow's fast transform, not rounded (arXiv 2102.06171 and the code released with it).
        'timm': a square too, bicubic with antialiasing, JPEG by the accurate transform, rounded to bytes, as
        Pillow does for timm, whose published figures of the paper's networks used it (its crop mode
        'squash'). 'timm_center': alike, but size + margin is the shorter side and the aspect is kept, as for
        timm's own networks (its crop mode 'center').
    """

    size: int
    margin: int
    style: str = 'paper'


def default_margin(size: int, style: str) -> int:
    """The margin around the center crop that the paper or timm resize to, px."""
    if style == 'paper':
        return _PAPER_MARGIN
    return _TIMM_RESIZED.get(size, int(size / _TIMM_CROP_FRACTION)) - size


def default_preprocessing(recipe: Recipe, size: int | None = None, style: str | None = None) -> Preprocessing:
    """The preprocessing of a network with this recipe, but for the size and the style that are given."""
    size, style = size or recipe.eval_size, style or recipe.eval_style
    if recipe.eval_crops is None or style != recipe.eval_style:
        return Preprocessing(size, default_margin(size, style), style)
    fraction = recipe.eval_crops[size == recipe.eval_size]
    return Preprocessing(size, int(size / fraction) - size, style)
