"""What the network found, put back into the image that it was given in a square."""

from typing import Any, NamedTuple

import numpy as np
from pycocotools import mask as mask_lib

from nfnets.detection.detections import Detections
from nfnets.detection.geometry import boxes_in_image, fit
from nfnets.detection.interpolation import interpolation_weights

_LEAST_PROBABILITY = 0.5  # Of a pixel, to be in the object.


class ImageDetections(NamedTuple):
    """The objects found in one image, the likeliest first.

    Attributes:
      boxes: float32 [D, 4], left, top, right, bottom, px of the image as it is.
      labels: int32 [D], classes from 0.
      scores: float32 [D], probabilities.
      run_lengths: where each is, as pycocotools takes it.
    """

    boxes: np.ndarray
    labels: np.ndarray
    scores: np.ndarray
    run_lengths: tuple[dict[str, Any], ...]

    def mask(self, index: int) -> np.ndarray:
        """Where an object is, bool [height, width]."""
        return mask_lib.decode(self.run_lengths[index]).astype(bool)


def put_back(found: Detections, masks: np.ndarray, height: int, width: int, size: int) -> ImageDetections:
    """What was found in an image that lies whole in a square, as by `fit`.

    Args:
      found: of one image, [D, ...], px of the square.
      masks: probabilities, float [D, S, S], across the boxes.
      height: of the image as it is, px.
      width: alike.
      size: side of the square, px.
    """
    there = np.flatnonzero(np.asarray(found.is_there))
    boxes, labels, scores = (np.asarray(part)[there] for part in found[:3])
    placed = boxes_in_image(fit(height, width, size), boxes, height, width)
    placed = np.clip(placed, 0, [width, height] * 2).astype(np.float32)
    pasted = (paste(np.asarray(masks[i]), box, height, width) for i, box in zip(there, placed, strict=True))
    run_lengths = tuple(mask_lib.encode(mask) for mask in pasted)
    return ImageDetections(placed, labels, scores, run_lengths)


def paste(mask: np.ndarray, box: np.ndarray, height: int, width: int) -> np.ndarray:
    """A mask at the size of its image: uint8 [height, width], column by column, 0 outside of the box.

    Args:
      mask: probabilities, float [S, S], across the box.
      box: [4], px.
      height: of the image, px.
      width: alike.
    """
    left, top, right, bottom = box.astype(np.float64)
    rows, of_rows = _weights(top, bottom, height, len(mask))
    columns, of_columns = _weights(left, right, width, len(mask))
    pasted = np.zeros((height, width), np.uint8, order='F')
    pasted[rows, columns] = of_rows @ mask @ of_columns.T >= _LEAST_PROBABILITY
    return pasted


def _weights(start: float, stop: float, length: int, side: int) -> tuple[slice, np.ndarray]:
    """The pixels along an axis whose middles lie in a stretch, and what each of its places gives them."""
    first, last = (int(np.clip(np.ceil(edge - 0.5), 0, length)) for edge in (start, stop))
    fraction = (np.arange(first, last) + 0.5 - start) / max(stop - start, 1e-6)
    return slice(first, last), interpolation_weights(fraction, side, 1 / side)
