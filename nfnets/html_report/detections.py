"""Sheets of detection: training images with their objects; held-out ones, the truth beside what is found."""

from collections.abc import Sequence

import ml_collections
import numpy as np

from nfnets import build
from nfnets.detection.drawing import draw, draw_found, draw_true, name_objects
from nfnets.detection.examples import CocoExamples
from nfnets.detection.image_detections import paste
from nfnets.errors import InputError
from nfnets.html_report.html import Element, element, table
from nfnets.html_report.images import data_uri, spaced
from nfnets.inference.detector import Detector
from nfnets.run.logged import Run

_LEAST_SCORE = 0.5  # Of an object that is drawn.
_MOST_PIXELS = 512  # Side of a drawing in the page.
_METRICS = ('box_ap', 'mask_ap')


def training_sheet(
    config: ml_collections.FrozenConfigDict, examples: CocoExamples, most: int
) -> list[Element]:
    """The first images of a run as they lie in their squares, with the objects to find and the crowds.

    Raises:
      InputError: an image cannot be decoded.
    """
    own = ml_collections.ConfigDict(config)
    own.train.batch_size = min(most, config.train.batch_size)
    batches = build.train_batches(ml_collections.FrozenConfigDict(own), examples, 0)
    try:
        batch = next(batches)
    finally:
        batches.close()
    images = [
        _training_image({name: value[i] for name, value in batch.items()}, examples.class_names)
        for i in range(len(batch['images']))
    ]
    text = 'The first images of the run as they lie in their squares, with the objects to find, and crowds.'
    return [element('p', text), element('div', [_card(one) for one in images], class_='images')]


def _training_image(example: dict[str, np.ndarray], class_names: Sequence[str]) -> np.ndarray:
    shown = np.flatnonzero(example['present'] | example['crowd'])
    boxes, labels, crowd = (example[name][shown] for name in ('boxes', 'labels', 'crowd'))
    height, width = example['images'].shape[:2]
    masks = [
        paste(example['masks'][i].astype(float), example['boxes'][i], height, width).astype(bool)
        for i in shown
    ]
    return draw(example['images'], boxes, labels, name_objects(labels, crowd, class_names), masks)


def held_out(run: Run, most: int) -> list[Element]:
    """Held-out images, evenly spaced, the truth beside what is found, and the precision of each class.

    Raises:
      InputError: the run has no checkpoint, or its data is not there, or of other classes.
    """
    examples = build.source(run.config, run.config.data.eval_split)
    detector = Detector(run.workdir, ema=True)
    if detector.class_names != examples.class_names:
        raise InputError(f'{run.workdir} is of other classes than {examples.file.path}')
    indices = spaced(len(examples), most).tolist()
    pairs = []
    for index, found in zip(indices, detector.detect(map(examples.pixels, indices)), strict=True):
        truth = draw_true(found.pixels, examples.annotated(index), examples.class_names)
        drawn = draw_found(found.pixels, found.objects, examples.class_names, _LEAST_SCORE)
        pairs.append(_card(truth, drawn, title=examples.describe(index)))
    text = (
        f'EMA of the parameters at step {detector.step:,} on {len(indices)} of {len(examples):,} images: the '
        f'truth, and beside or below it what is found with a score of {_LEAST_SCORE:.0%} or more.'
    )
    return [element('p', text), element('div', pairs, class_='images pairs'), *_by_class(run)]


def _by_class(run: Run) -> list[Element]:
    """The precision of each class in the newest evaluation, if there was one."""
    pairs = {n: [run.last(f'eval_ema/{metric}/{n}') for metric in _METRICS] for n in run.class_names or ()}
    percents = {name: [f'{100 * x:.1f}%' for x in pair if x is not None] for name, pair in pairs.items()}
    rows = [[name, *pair] for name, pair in percents.items() if pair]  # Others have no object in the split.
    if not rows:
        return []
    head = ('class', 'box AP', 'mask AP')
    return [element('h4', 'Average precision by class, EMA'), table(head, rows)]


def _card(*images: np.ndarray, title: str = '') -> Element:
    elements = [
        element('img', src=data_uri(image, _MOST_PIXELS), alt=title, title=title, loading='lazy')
        for image in images
    ]
    return element('figure', elements, class_='card')
