"""The order of examples and the batches that one process feeds to its devices.

Order is a function of seed and epoch alone, and the data position is one number: how many images all
processes together have read. A batch of the run is the next so many positions, of which each process takes
its part, so neither their number nor an interruption changes what is in a batch; resuming from a position
costs one permutation at most (`nfnets/data/order.py`) and reads nothing again.
"""

import itertools
from collections.abc import Callable, Iterator

import jax
import numpy as np

from nfnets.data import decode
from nfnets.data.pipeline import Pipeline, Work
from nfnets.data.preprocessing import Preprocessing
from nfnets.data.source import Source
from nfnets.data.tensorflow import tf

Batch = dict[str, np.ndarray]
MakeBatch = Callable[[Work, np.ndarray, np.ndarray], Batch]  # Of work, and its images and labels.


def _with_labels(work: Work, images: np.ndarray, labels: np.ndarray) -> Batch:
    del work
    return {'images': images, 'labels': labels}


class TrainBatches:
    """Endless training batches of one process: {'images': uint8 [N, S, S, 3], 'labels': int32 [N] or [N, L]}.

    Attributes:
      position: data position of the whole run after the batch yielded last, images.
      skipped: crops of broken images that this process has skipped so far.
    """

    def __init__(
        self, pipeline: Pipeline, position: int, batch_size: int, make_batch: MakeBatch = _with_labels
    ):
        """Args: pipeline gives N images at a time; position and batch_size are of all processes, images."""
        self._pipeline = pipeline
        self._batch_size = batch_size
        self._make_batch = make_batch
        self.position = position

    @property
    def skipped(self) -> int:
        return self._pipeline.skipped

    def __iter__(self) -> 'TrainBatches':
        return self

    def __next__(self) -> Batch:
        work, images, labels, is_whole = self._pipeline.next()
        batch = self._make_batch(work, images, labels)
        if not is_whole.all():
            # The broken ones' places go to whole ones of the same batch, so that its size stays.
            chosen = np.arange(len(is_whole))
            chosen[~is_whole] = np.resize(np.flatnonzero(is_whole), np.sum(~is_whole))
            batch = {name: value[chosen] for name, value in batch.items()}
        self.position += self._batch_size
        return batch

    def close(self) -> None:
        """Stops what reads ahead."""
        self._pipeline.close()


class EvalBatches:
    """Every example of a split once: {'images': float32 [N, S, S, 3], 'labels', 'mask', 'indices'}.

    'labels' are int32 [N], or [N, L] of sets, as in the source; 'mask' is float32 [N], 0 for padding and for
    broken images; 'indices' are int32 [N], in the source. All processes have as many batches.

    Attributes:
      skipped: broken images that this process has skipped so far.
    """

    def __init__(self, pipeline: Pipeline, num_batches: int, make_batch: MakeBatch = _with_labels):
        """Args: pipeline gives N images at a time, num_batches times."""
        self._pipeline = pipeline
        self._num_batches = num_batches
        self._make_batch = make_batch

    def __len__(self) -> int:
        return self._num_batches

    @property
    def skipped(self) -> int:
        return self._pipeline.skipped

    def __iter__(self) -> Iterator[Batch]:
        try:
            while True:
                work, images, labels, is_whole = self._pipeline.next()
                batch = self._make_batch(work, images, labels)
                yield batch | {'mask': work.mask * is_whole, 'indices': work.indices.astype(np.int32)}
        except StopIteration:
            return
        finally:
            self._pipeline.close()


def train_batches(
    source: Source,
    crop: decode.TrainCrop,
    *,
    seed: int,
    position: int,
    batch_size: int,
    skip_broken: bool,
    needs_label: bool = True,
    repeats: int = 1,
    per_round: int = 1,
) -> TrainBatches:
    """This process's part of the batches of the training stream, from a position on.

    Args:
      source: the training split.
      crop: of the images.
      seed: of the run; order and crops are functions of it and of the position.
      position: images that all processes have read before.
      batch_size: source images a step over all processes, whose number must divide it.
      skip_broken: count broken examples instead of stopping.
      needs_label: whether an example with an empty set of labels is broken.
      repeats: crops of each image, all in the same batch (arXiv 2105.13343).
      per_round: images that go into a batch one crop of each after another, `repeats` times, before those
        that follow them; it must divide the images of each process.

    Returns:
      An iterator that raises InputError at a broken example, if not skip_broken: its image cannot be decoded,
      a label is outside of the classes, or it has none and needs one.
    """

    def work() -> Iterator[Work]:
        order = source.order(seed)
        for positions in train_positions(position, batch_size):
            crops = _crops(positions, repeats, per_round)
            seeds = np.stack([np.full(len(crops), seed), crops], axis=1)
            yield Work(order(crops // repeats), seeds, np.ones(len(crops), np.float32))

    decode_fn = decode.as_graph(decode.decode_train, crop)
    pipeline = Pipeline(source, work(), decode_fn, crop.size, tf.uint8, skip_broken, needs_label)
    return TrainBatches(pipeline, position, batch_size)


def eval_batches(
    source: Source, preprocessing: Preprocessing, *, batch_size: int, skip_broken: bool
) -> EvalBatches:
    """This process's part of one pass over a split.

    Args:
      source: the split.
      preprocessing: of the images.
      batch_size: images over all processes, whose number must divide it.
      skip_broken: as of `train_batches`.
    """

    def work() -> Iterator[Work]:
        for indices, mask in eval_positions(len(source), batch_size):
            yield Work(indices, np.zeros((len(indices), 1), np.int64), mask)

    decoded = decode.as_graph(decode.decode_eval, preprocessing)
    decode_fn = lambda encoded, _: decoded(encoded)  # noqa: E731 - no geometry
    pipeline = Pipeline(source, work(), decode_fn, preprocessing.size, tf.float32, skip_broken)
    return EvalBatches(pipeline, -(-len(source) // batch_size))


def train_positions(position: int, batch_size: int) -> Iterator[np.ndarray]:
    """This process's data positions, int64 [N], of one batch after another, without end.

    Args:
      position: of the first batch, images over all processes.
      batch_size: images over all processes, whose number must divide it.
    """
    size = batch_size // jax.process_count()
    start = position + jax.process_index() * size
    while True:
        yield np.arange(start, start + size)
        start += batch_size


def eval_positions(num_examples: int, batch_size: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """This process's examples of each batch, int64 [N], and a mask float32 [N], 0 for padding.

    Args:
      num_examples: of the split.
      batch_size: images over all processes, whose number must divide it.
    """
    for positions in itertools.islice(train_positions(0, batch_size), -(-num_examples // batch_size)):
        yield np.minimum(positions, num_examples - 1), (positions < num_examples).astype(np.float32)


def _crops(positions: np.ndarray, repeats: int, per_round: int) -> np.ndarray:
    """Numbers of the crops of the images at some data positions; with one of each the positions."""
    crops = positions[:, None] * repeats + np.arange(repeats)
    return crops.reshape(-1, per_round, repeats).swapaxes(1, 2).reshape(-1)
