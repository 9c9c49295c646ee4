"""The objects of an image as they lie in its square: what the network is trained to find."""

from typing import NamedTuple

import numpy as np

from nfnets.detection.coco import Annotated
from nfnets.detection.geometry import Placing, mask_across, place_boxes

_LEAST_SIDE = 1.0  # px of a box that is left of an object; of less, it is cut off.


class PlacedObjects(NamedTuple):
    """The objects of one image, in G places.

    Attributes:
      boxes: float32 [G, 4], px.
      labels: int32 [G], classes from 0.
      present: bool [G], whether the place holds an object to find.
      crowd: bool [G], whether it holds a crowd.
      masks: uint8 [G, M, M], 1 in the object, across the boxes; of crowds 0.
      dropped: how many there was no room for.
    """

    boxes: np.ndarray
    labels: np.ndarray
    present: np.ndarray
    crowd: np.ndarray
    masks: np.ndarray
    dropped: int


def place_objects(image: Annotated, placing: Placing, most: int, side: int) -> PlacedObjects:
    """The objects that the square shows; if there is no room for all, crowds go first, then the smallest.

    Args:
      image: its objects.
      placing: of the image.
      most: G, places for objects of an image.
      side: M, side of a mask in places.
    """
    boxes = place_boxes(placing, image.boxes, image.height, image.width)
    masks = np.zeros((len(boxes), side, side), np.uint8)
    is_seen = np.min(boxes[:, 2:] - boxes[:, :2], axis=1, initial=np.inf) >= _LEAST_SIDE
    for i in np.flatnonzero(is_seen & ~image.crowd).tolist():
        masks[i] = mask_across(image.mask(i), boxes[i], placing, image.height, image.width, side)
    is_seen &= image.crowd | masks.any(axis=(1, 2))
    kept = _kept(boxes, is_seen, image.crowd, most)
    padding = [(0, most - len(kept))]
    return PlacedObjects(
        np.pad(boxes[kept], [*padding, (0, 0)]),
        np.pad(image.labels[kept], padding),
        np.pad(~image.crowd[kept], padding),
        np.pad(image.crowd[kept], padding),
        np.pad(masks[kept], [*padding, (0, 0), (0, 0)]),
        int(np.sum(is_seen)) - len(kept),
    )


def _kept(boxes: np.ndarray, is_seen: np.ndarray, crowd: np.ndarray, most: int) -> np.ndarray:
    """Indices of those that there is room for, in their order."""
    seen = np.flatnonzero(is_seen)
    areas = np.prod(boxes[seen, 2:] - boxes[seen, :2], axis=1)
    by_worth = np.lexsort((-areas, crowd[seen]))
    return np.sort(seen[by_worth[:most]])
