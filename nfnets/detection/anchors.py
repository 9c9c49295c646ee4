"""Anchors: the boxes that the region proposal network moves and stretches.

References:
  [L] Lin et al. 2017, arXiv 1612.03144 (feature pyramids, section 4.1).
"""

import numpy as np

from nfnets.errors import InputError

LEVELS = (2, 3, 4, 5, 6)  # P2 .. P6; the side of a place is 2^level px.
STRIDE = 2 ** LEVELS[-1]  # px: a place of the coarsest level; sides of images are multiples of it.
RATIOS = (0.5, 1.0, 2.0)  # Height to width.
PER_PLACE = len(RATIOS)


def check_side(name: str, side: int) -> None:
    """Raises an InputError that names the side of images, px, if the levels do not fit them."""
    if side % STRIDE:
        above = -(-side // STRIDE) * STRIDE
        raise InputError(f'{name}={side} must be a multiple of {STRIDE} px, such as {above}, for a detector')


def make_anchors(height: int, width: int, scale: float = 8.0) -> list[np.ndarray]:
    """The anchors of each level ([L] section 4.1).

    Args:
      height: of the image, px, a multiple of 2^6.
      width: alike.
      scale: side of a square anchor in sides of a place; 8 gives [L]'s 32 to 512 px.

    Returns:
      For each of `LEVELS` float32 [places by row, PER_PLACE, 4], as one axis; all of a level have one area.
    """
    found = []
    for level in LEVELS:
        stride = 2**level
        ratios = np.sqrt(np.asarray(RATIOS))
        halves = 0.5 * scale * stride * np.stack([1 / ratios, ratios], axis=-1)
        y, x = np.mgrid[0 : height // stride, 0 : width // stride]
        centers = (np.stack([x, y], axis=-1).reshape(-1, 1, 2) + 0.5) * stride
        boxes = np.concatenate([centers - halves, centers + halves], axis=-1)
        found.append(boxes.reshape(-1, 4).astype(np.float32))
    return found
