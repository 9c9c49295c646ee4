"""Batches of images in their squares, with their objects.

Where an image lies is a function of the seed and of its data position, so that resuming from a position gives
the same batches, as of `nfnets/data/stream.py`.
"""

from collections.abc import Iterator

import jax
import numpy as np

from nfnets.data import stream
from nfnets.data.decode import as_graph
from nfnets.data.order import Order
from nfnets.data.pipeline import Pipeline, Work
from nfnets.data.stream import Batch
from nfnets.data.tensorflow import tf
from nfnets.detection.examples import CocoExamples
from nfnets.detection.geometry import Placing, fit, jitter
from nfnets.detection.letterbox import decode_placed
from nfnets.detection.placed_objects import place_objects

_STREAM = 1  # Keeps these random numbers apart from those of the order, whose key is seed and epoch.


class TrainBatches(stream.TrainBatches):
    """Endless training batches of one process.

    {'images': uint8 [N, S, S, 3], 'image_sizes': float32 [N, 2] (height and width without padding, px),
    'boxes': float32 [N, G, 4], 'labels': int32 [N, G], 'present': bool [N, G], 'crowd': bool [N, G],
    'masks': uint8 [N, G, M, M]}, see `PlacedObjects`.

    Attributes:
      position: data position of the whole run after the batch yielded last, images.
      skipped: broken images that this process has skipped so far.
      dropped: objects of this process so far that there was no room for.
    """

    def __init__(self, pipeline: Pipeline, position: int, batch_size: int):
        """Args: pipeline gives N images at a time; position and batch_size are of all processes, images."""
        super().__init__(pipeline, position, batch_size, self._with_objects)
        self.dropped = 0

    def _with_objects(self, work: Work, images: np.ndarray, labels: np.ndarray) -> Batch:
        of_batch = jax.tree.map(lambda *parts: np.stack(parts), *work.rest)._asdict()
        self.dropped += int(np.sum(of_batch.pop('dropped')))
        return _with_sizes(work, images, labels) | of_batch


def _with_sizes(work: Work, images: np.ndarray, labels: np.ndarray) -> Batch:
    del labels
    shown = [_placing(numbers).shown for numbers in work.geometry]
    return {'images': images, 'image_sizes': np.array(shown, np.float32)}


def train_batches(
    examples: CocoExamples,
    *,
    size: int,
    scales: tuple[float, float],
    flip: bool,
    most_objects: int,
    mask_side: int,
    seed: int,
    position: int,
    batch_size: int,
    skip_broken: bool,
) -> TrainBatches:
    """This process's part of the batches of the training stream, from a position on.

    Args:
      examples: the training split.
      size: S, px.
      scales: least and most of an image's longer side, in S.
      flip: whether half of the images are mirrored.
      most_objects: G, places for objects of an image.
      mask_side: M, side of a mask in places.
      seed: of the run; order and places in the square are functions of it and of the position.
      position: images that all processes have read before.
      batch_size: images a step over all processes, whose number must divide it.
      skip_broken: count broken images instead of stopping.

    Returns:
      An iterator that raises InputError at a broken image, if not skip_broken: it cannot be decoded, or has
      another size than its set says.
    """

    def work() -> Iterator[Work]:
        order = Order(len(examples), seed)
        for positions in stream.train_positions(position, batch_size):
            indices = order(positions)
            images = [examples.annotated(index) for index in indices]
            placings = [
                jitter(np.random.default_rng((seed, at, _STREAM)), *image.size, size, scales, flip)
                for at, image in zip(positions, images, strict=True)
            ]
            objects = [
                place_objects(*pair, most_objects, mask_side) for pair in zip(images, placings, strict=True)
            ]
            yield Work(indices, np.array(placings, np.int64), np.ones(len(positions), np.float32), objects)

    return TrainBatches(_pipeline(examples, work(), size, skip_broken), position, batch_size)


def eval_batches(
    examples: CocoExamples, *, size: int, batch_size: int, skip_broken: bool
) -> stream.EvalBatches:
    """This process's part of one pass over a split, each image whole.

    Args:
      examples: the split.
      size: S, px.
      batch_size: images over all processes, whose number must divide it.
      skip_broken: as of `train_batches`.

    Returns:
      What gives {'images': uint8 [N, S, S, 3], 'image_sizes': float32 [N, 2] (height and width without
      padding, px), 'mask': float32 [N] (0 for padding and for broken images), 'indices': int32 [N]}.
    """

    def work() -> Iterator[Work]:
        for indices, mask in stream.eval_positions(len(examples), batch_size):
            placings = [fit(*examples.annotated(index).size, size) for index in indices]
            yield Work(indices, np.array(placings, np.int64), mask)

    pipeline = _pipeline(examples, work(), size, skip_broken)
    return stream.EvalBatches(pipeline, -(-len(examples) // batch_size), _with_sizes)


def _pipeline(examples: CocoExamples, work: Iterator[Work], size: int, skip_broken: bool) -> Pipeline:
    return Pipeline(examples, work, as_graph(decode_placed, size), size, tf.uint8, skip_broken)


def _placing(numbers: np.ndarray) -> Placing:
    return Placing(*numbers.tolist())
