"""COCO's average precision of boxes and masks, by pycocotools (https://cocodataset.org/#detection-eval)."""

import contextlib
import io
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from pycocotools import mask as mask_lib
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from nfnets.detection.examples import CocoExamples
from nfnets.detection.image_detections import ImageDetections
from nfnets.errors import InputError

_KINDS = {'box': 'bbox', 'mask': 'segm'}
# In pycocotools' order: mean over IoU thresholds of 0.5 to 0.95, two of these alone, and of small, medium and
# large objects, below 32^2 and 96^2 px of their image and above.
_NAMES = ('ap', 'ap50', 'ap75', 'ap_s', 'ap_m', 'ap_l')


class ClassScore(NamedTuple):
    """Average precision of one class, 0..1.

    Attributes:
      name: of the class.
      objects: how many there are, without crowds.
      box_ap: mean over IoU thresholds of 0.5 to 0.95.
      box_ap50: at an IoU threshold of 0.5.
      mask_ap: as `box_ap`.
      mask_ap50: as `box_ap50`.
    """

    name: str
    objects: int
    box_ap: float
    box_ap50: float
    mask_ap: float
    mask_ap50: float


class Scores(NamedTuple):
    """Average precision over some images.

    Attributes:
      metrics: 'box_ap', 'box_ap50', 'box_ap75', 'box_ap_s', 'box_ap_m', 'box_ap_l', and 'mask_ap' and so on,
        0..1, means over the classes; without those of a size that no object has.
      classes: those that have objects, by label.
    """

    metrics: dict[str, float]
    classes: tuple[ClassScore, ...]


def average_precision(examples: CocoExamples, found: Mapping[int, ImageDetections]) -> Scores:
    """Compares what was found in images with their objects; crowds count neither way.

    Args:
      examples: the split.
      found: by index, in every image that counts.

    Raises:
      InputError: the images have no object.
    """
    counts = np.zeros(len(examples.class_names), int)
    for index in found:
        image = examples.annotated(index)
        np.add.at(counts, image.labels[~image.crowd], 1)
    if not counts.any():
        raise InputError(f'none of the {len(found)} images of {examples.file.path} has an object to find')
    metrics: dict[str, float] = {}
    of_classes: list[np.ndarray] = []
    for name, kind in _KINDS.items():
        stats, precision = _evaluate(examples, found, kind)
        metrics |= {f'{name}_{key}': value for key, value in zip(_NAMES, stats, strict=False) if value >= 0}
        of_classes += [precision.mean(axis=(0, 1)), precision[0].mean(axis=0)]
    rows = zip(examples.class_names, counts.tolist(), *(each.tolist() for each in of_classes), strict=True)
    return Scores(metrics, tuple(ClassScore(*row) for row in rows if row[1]))


def _evaluate(
    examples: CocoExamples, found: Mapping[int, ImageDetections], kind: str
) -> tuple[list[float], np.ndarray]:
    """pycocotools' summary, and precision by IoU threshold, recall and class, [T, R, K]."""
    images = [
        {'id': index, 'height': examples.annotated(index).height, 'width': examples.annotated(index).width}
        for index in found
    ]
    categories = [{'id': label} for label in range(len(examples.class_names))]
    truth = [each for index in found for each in _truth(examples, index)]
    guesses = [each for index, detections in found.items() for each in _guesses(index, detections, kind)]
    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools prints what it does.
        evaluation = COCOeval(*(_coco(images, categories, each) for each in (truth, guesses)), kind)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    # All sizes, and the most detections of an image.
    return evaluation.stats.tolist(), evaluation.eval['precision'][..., 0, -1]


def _coco(images: list[dict], categories: list[dict], annotations: list[dict]) -> COCO:
    coco = COCO()
    # pycocotools takes an id of 0 for no match.
    numbered = [each | {'id': number} for number, each in enumerate(annotations, 1)]
    coco.dataset = {'images': images, 'categories': categories, 'annotations': numbered}
    coco.createIndex()
    return coco


def _truth(examples: CocoExamples, index: int) -> list[dict[str, Any]]:
    image = examples.annotated(index)
    return [
        {
            'image_id': index,
            'category_id': int(image.labels[i]),
            'bbox': _from_corners(image.boxes[i]),
            'area': float(image.areas[i]),
            'iscrowd': int(image.crowd[i]),
            'segmentation': image.run_lengths(i),
        }
        for i in range(len(image.labels))
    ]


def _guesses(index: int, found: ImageDetections, kind: str) -> list[dict[str, Any]]:
    guesses = []
    for box, label, score, run_lengths in zip(*found, strict=True):
        left, top, width, height = _from_corners(box)
        # What matches nothing counts for its own size, that of the box or of the mask.
        area = width * height if kind == _KINDS['box'] else float(mask_lib.area(run_lengths))
        guesses.append(
            {
                'image_id': index,
                'category_id': int(label),
                'bbox': [left, top, width, height],
                'area': area,
                'iscrowd': 0,
                'segmentation': run_lengths,
                'score': float(score),
            }
        )
    return guesses


def _from_corners(box: np.ndarray) -> list[float]:
    """Left, top, width, height."""
    left, top, right, bottom = box.tolist()
    return [left, top, right - left, bottom - top]
