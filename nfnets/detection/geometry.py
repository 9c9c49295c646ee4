"""Where an image lies in the square that the network sees, and its objects with it.

In training the image is scaled at random, mirrored at random, and what does not fit is cut off at random; in
evaluation its longer side fits. The rest of the square is padding, right and below.
"""

from typing import NamedTuple

import numpy as np


class Placing(NamedTuple):
    """How an image is put into a square of S px.

    Attributes:
      height: of the whole image, scaled, px.
      width: alike.
      top: rows of that which are cut off above.
      left: columns that are cut off at the left.
      is_mirrored: whether it is mirrored, after all of that.
      size: S.
    """

    height: int
    width: int
    top: int
    left: int
    is_mirrored: bool
    size: int

    @property
    def shown(self) -> tuple[int, int]:
        """Height and width of what is seen, px."""
        return min(self.height - self.top, self.size), min(self.width - self.left, self.size)


def fit(height: int, width: int, size: int) -> Placing:
    """Placing of a whole image, for evaluation: its longer side becomes S.

    Args:
      height: of the image, px.
      width: alike.
      size: S, px.
    """
    scale = size / max(height, width)
    tall, wide = (max(1, round(side * scale)) for side in (height, width))
    return Placing(tall, wide, 0, 0, False, size)


def jitter(
    rng: np.random.Generator, height: int, width: int, size: int, scales: tuple[float, float], flip: bool
) -> Placing:
    """A random placing: for training.

    Args:
      rng: random.
      height: of the image, px.
      width: alike.
      size: S, px.
      scales: least and most of the longer side, in S.
      flip: whether half of the images are mirrored.
    """
    scale = rng.uniform(*scales) * size / max(height, width)
    tall, wide = (max(1, round(side * scale)) for side in (height, width))
    top, left = (int(rng.integers(0, max(0, side - size) + 1)) for side in (tall, wide))
    return Placing(tall, wide, top, left, flip and bool(rng.integers(2)), size)


def place_boxes(placing: Placing, boxes: np.ndarray, height: int, width: int) -> np.ndarray:
    """Boxes of an image as they lie in the square, cut off where it ends, float32 [G, 4], px.

    Args:
      placing: of the image.
      boxes: [G, 4], in the image as it is, px.
      height: of the image, px.
      width: alike.
    """
    scale, shift = _scale_and_shift(placing, height, width)
    tall, wide = placing.shown
    placed = np.clip(boxes * scale - shift, 0, [wide, tall] * 2)
    return _mirror(placing, placed).astype(np.float32)


def boxes_in_image(placing: Placing, boxes: np.ndarray, height: int, width: int) -> np.ndarray:
    """Boxes of the square as they lie in the image, float32 [G, 4], px: `place_boxes` undone, without cuts.

    Args:
      placing: of the image.
      boxes: [G, 4], in the square, px.
      height: of the image, px.
      width: alike.
    """
    scale, shift = _scale_and_shift(placing, height, width)
    return ((_mirror(placing, boxes) + shift) / scale).astype(np.float32)


def _scale_and_shift(placing: Placing, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    scale = np.array([placing.width / width, placing.height / height] * 2)
    return scale, np.array([placing.left, placing.top] * 2)


def _mirror(placing: Placing, boxes: np.ndarray) -> np.ndarray:
    """Boxes in the square before mirroring, as they are after it, and the other way round."""
    if not placing.is_mirrored:
        return boxes
    wide = placing.shown[1]
    return np.stack([wide - boxes[:, 2], boxes[:, 1], wide - boxes[:, 0], boxes[:, 3]], axis=1)


def mask_across(
    mask: np.ndarray, placed: np.ndarray, placing: Placing, height: int, width: int, side: int
) -> np.ndarray:
    """A mask of an image as M x M places across its object's box in the square see it.

    Args:
      mask: bool [height, width], of the image as it is.
      placed: [4], the box in the square, px.
      placing: of the image.
      height: of the image, px.
      width: alike.
      side: M, side of the mask in places.

    Returns:
      uint8 [M, M], 1 where the middle of a place is in the object.
    """
    steps = (np.arange(side) + 0.5) / side
    boxes = np.stack(
        [
            placed[0] + steps * (placed[2] - placed[0]),
            placed[1] + steps * (placed[3] - placed[1]),
        ],
        axis=1,
    )
    points = boxes_in_image(placing, np.tile(boxes, 2), height, width)
    columns = np.clip(points[:, 0].astype(int), 0, width - 1)
    rows = np.clip(points[:, 1].astype(int), 0, height - 1)
    return mask[np.ix_(rows, columns)].astype(np.uint8)
