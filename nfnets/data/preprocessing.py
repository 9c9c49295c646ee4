"""Preprocessing of images in evaluation, as checkpoints record it."""

import dataclasses

STYLES = ('paper', 'timm')
_PAPER_MARGIN = 32
# timm resizes to int(size / crop_pct) px, with a crop_pct of each variant's own; by eval size.
_TIMM_RESIZED = {256: 284, 320: 351, 352: 382, 416: 442, 512: 538, 544: 570, 576: 602}
_TIMM_SHARE = 0.9  # Of other sizes.


@dataclasses.dataclass(frozen=True)
class Preprocessing:
    """The whole image is resized to a square of size + margin, whatever its aspect, and the center cropped.

    Attributes:
      size: side of the network's input, px.
      margin: px.
      style: 'paper': bicubic without antialiasing, JPEG by TensorFlow's fast transform, not rounded
        (arXiv 2102.06171 and the code released with it). 'timm': bicubic with antialiasing, JPEG by the
        accurate transform, rounded to bytes, as Pillow does for timm, whose published figures used it.
    """

    size: int
    margin: int
    style: str = 'paper'


def default_margin(size: int, style: str) -> int:
    """The margin around the center crop that the paper or timm resize to, px."""
    if style == 'paper':
        return _PAPER_MARGIN
    return _TIMM_RESIZED.get(size, int(size / _TIMM_SHARE)) - size
