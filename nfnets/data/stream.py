"""The order of examples and the batches that one process feeds to its devices.

Order is a function of seed and epoch alone, and the place in it is one number: the *position*, how many
images all processes together have consumed. A batch of the run is the next so many positions, of which each
process takes its part, so neither their number nor an interruption changes what is in a batch; going on from
a position costs one permutation and reads nothing again (for ImageNet's 1,281,167 images: 10 MB and about
20 ms).
"""

import collections
import contextlib
import itertools
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from nfnets.data import decode
from nfnets.data.source import Source
from nfnets.errors import InputError

_READERS = 16  # Threads that wait for files.

Batch = dict[str, np.ndarray]
_Decode = Callable[..., Any]  # Of TensorFlow's graph functions.


class _Work(NamedTuple):
    """One process's part of a batch: which examples, and what each is decoded with."""

    indices: np.ndarray  # int64 [N]
    seeds: np.ndarray  # int64 [N, 2], of the random crops.
    mask: np.ndarray  # float32 [N], 0 for padding.


class TrainBatches:
    """Endless training batches of one process: {'images': uint8 [N, S, S, 3], 'labels': int32 [N]}.

    Attributes:
      position: of the whole stream after the batch yielded last.
      skipped: broken images this process has left out so far.
    """

    def __init__(self, pipeline: '_Pipeline', position: int, batch_size: int):
        self._pipeline = pipeline
        self._batch_size = batch_size
        self.position = position

    @property
    def skipped(self) -> int:
        return self._pipeline.skipped

    def __iter__(self) -> 'TrainBatches':
        return self

    def __next__(self) -> Batch:
        _, images, labels, is_whole = self._pipeline.next()
        if not is_whole.all():
            # The broken ones' places go to whole ones of the same batch, so that its size stays.
            fill = np.resize(np.flatnonzero(is_whole), np.sum(~is_whole))
            images, labels = images.copy(), labels.copy()
            images[~is_whole], labels[~is_whole] = images[fill], labels[fill]
        self.position += self._batch_size
        return {'images': images, 'labels': labels}

    def close(self) -> None:
        """Stops what reads ahead."""
        self._pipeline.close()


class EvalBatches:
    """Every example of a split once: {'images': float32 [N, S, S, 3], 'labels': int32 [N], 'mask'}.

    'mask' is float32 [N], 0 for padding and for broken images; all processes have as many batches.

    Attributes:
      skipped: broken images this process has left out so far.
    """

    def __init__(self, pipeline: '_Pipeline'):
        self._pipeline = pipeline

    @property
    def skipped(self) -> int:
        return self._pipeline.skipped

    def __iter__(self) -> Iterator[Batch]:
        try:
            while True:
                work, images, labels, is_whole = self._pipeline.next()
                yield {'images': images, 'labels': labels, 'mask': work.mask * is_whole}
        except StopIteration:
            return
        finally:
            self._pipeline.close()


def train_batches(
    source: Source,
    *,
    seed: int,
    position: int,
    batch_size: int,
    image_size: int,
    margin: int,
    crop_area: tuple[float, float],
    flip: bool,
    skip_broken: bool,
    process_index: int = 0,
    process_count: int = 1,
) -> TrainBatches:
    """Batches of the training stream from a position on.

    Args:
      source: the training split.
      seed: of the run; order and crops are functions of it and of the position.
      position: see the module.
      batch_size: source images a step over all processes.
      image_size: px.
      margin: as of `decode.decode_train`, px.
      crop_area: least and most share of an image that a crop covers.
      flip: mirror half of the images.
      skip_broken: count images that cannot be decoded instead of stopping.
      process_index: of this process.
      process_count: must divide batch_size.

    Returns:
      An iterator that raises InputError at an image that cannot be decoded (if not skip_broken) or a
      label outside of the classes.
    """

    def work() -> Iterator[_Work]:
        order = _Order(len(source), seed)
        size = batch_size // process_count
        start = position + process_index * size
        while True:
            places = np.arange(start, start + size)
            seeds = np.stack([np.full(size, seed), places], axis=1)
            yield _Work(order(places), seeds, np.ones(size, np.float32))
            start += batch_size

    def decode_fn(encoded: tf.Tensor, crop_seed: tf.Tensor) -> tf.Tensor:
        return decode.decode_train(
            encoded, crop_seed, size=image_size, margin=margin, crop_area=crop_area, flip=flip
        )

    pipeline = _Pipeline(source, work(), decode_fn, image_size, tf.uint8, skip_broken)
    return TrainBatches(pipeline, position, batch_size)


def eval_batches(
    source: Source,
    *,
    batch_size: int,
    image_size: int,
    margin: int,
    skip_broken: bool,
    process_index: int = 0,
    process_count: int = 1,
) -> EvalBatches:
    """Batches of an evaluation; arguments as of `train_batches`, margin as of `decode.decode_eval`."""

    def work() -> Iterator[_Work]:
        size = batch_size // process_count
        for start in range(0, len(source), batch_size):
            places = start + process_index * size + np.arange(size)
            mask = (places < len(source)).astype(np.float32)
            yield _Work(np.minimum(places, len(source) - 1), np.zeros((size, 2), np.int64), mask)

    def decode_fn(encoded: tf.Tensor, crop_seed: tf.Tensor) -> tf.Tensor:
        del crop_seed
        return decode.decode_eval(encoded, size=image_size, margin=margin)

    return EvalBatches(_Pipeline(source, work(), decode_fn, image_size, tf.float32, skip_broken))


class _Order:
    """Index of the example at each position; keeps the permutations of the epochs in use."""

    def __init__(self, num_examples: int, seed: int):
        self._num_examples = num_examples
        self._seed = seed
        self._permutations: dict[int, np.ndarray] = {}

    def __call__(self, positions: np.ndarray) -> np.ndarray:
        epochs, offsets = np.divmod(positions, self._num_examples)
        known = self._permutations
        self._permutations = {
            int(e): known[e] if e in known else self._permutation(int(e)) for e in np.unique(epochs)
        }
        indices = np.empty_like(positions)
        for epoch, permutation in self._permutations.items():
            indices[epochs == epoch] = permutation[offsets[epochs == epoch]]
        return indices

    def _permutation(self, epoch: int) -> np.ndarray:
        return np.random.default_rng([self._seed, epoch]).permutation(self._num_examples)


class _Pipeline:
    """Reads encoded images in Python threads and decodes them in tf.data's."""

    def __init__(
        self,
        source: Source,
        work: Iterator[_Work],
        decode_fn: _Decode,
        image_size: int,
        dtype: tf.DType,
        skip_broken: bool,
    ):
        tf.config.set_visible_devices([], 'GPU')  # The accelerator is the network's.
        self._source = source
        self._skip_broken = skip_broken
        self._readers = ThreadPoolExecutor(_READERS, 'read')
        self._under_way: collections.deque[_Work] = collections.deque()
        self._error: Exception | None = None
        self._is_closed = False
        self.skipped = 0
        first = next(work)
        dataset = tf.data.Dataset.from_generator(
            lambda: self._encoded(itertools.chain([first], work)),
            output_signature=(
                tf.TensorSpec((None,), tf.string),
                tf.TensorSpec((None,), tf.int32),
                tf.TensorSpec((None, 2), tf.int64),
            ),
        )
        options = tf.data.Options()
        options.deterministic = True
        self._decode_fn = decode_fn
        if skip_broken:
            decode_fn = _or_blank(decode_fn, np.zeros((image_size, image_size, 3), dtype.as_numpy_dtype))
        else:
            decode_fn = _or_fail(decode_fn)
        self._batches = iter(
            dataset.unbatch()
            .map(decode_fn, num_parallel_calls=tf.data.AUTOTUNE)
            .batch(len(first.indices))
            .prefetch(2)
            .with_options(options)
        )

    def _encoded(self, work: Iterator[_Work]) -> Iterator[tuple[list[bytes], list[int], np.ndarray]]:
        try:
            for part in work:
                if self._is_closed:
                    return
                examples = list(self._readers.map(self._read, part.indices.tolist()))
                self._under_way.append(part)
                yield [e[0] for e in examples], [e[1] for e in examples], part.seeds
        except Exception as error:  # Raised again by `next`: tf.data would bury it in its own.
            self._error = error

    def _read(self, index: int) -> tuple[bytes, int]:
        try:
            encoded, label = self._source.read(index)
        except OSError as error:
            if not self._skip_broken:
                raise InputError(f'{self._source.describe(index)} cannot be read: {error}') from error
            return b'', 0
        num_classes = len(self._source.class_names)
        if not 0 <= label < num_classes:
            raise InputError(
                f'{self._source.describe(index)} has the label {label}; the {num_classes} classes '
                f'have 0 to {num_classes - 1}'
            )
        return encoded, label

    def next(self) -> tuple[_Work, np.ndarray, np.ndarray, np.ndarray]:
        """The next part: its work, images, labels and which images are whole (bool [N])."""
        try:
            batch = next(self._batches, None)
        except tf.errors.InvalidArgumentError as error:
            raise InputError(self._name_broken(self._under_way[0])) from error
        if batch is None:
            if self._error is not None:
                raise self._error
            raise StopIteration
        images, labels, is_whole = (x.numpy() for x in batch)
        work = self._under_way.popleft()
        self.skipped += int(np.sum(~is_whole & (work.mask > 0)))
        if not is_whole.any():
            raise InputError(f'none of the {len(is_whole)} images of a batch can be decoded')
        return work, images, labels, is_whole

    def _name_broken(self, work: _Work) -> str:
        # tf.data does not say which example failed: they are tried again, one by one.
        names = []
        for index, seed in zip(work.indices.tolist(), work.seeds, strict=True):
            try:
                self._decode_fn(tf.constant(self._source.read(index)[0]), tf.constant(seed))
            except tf.errors.InvalidArgumentError:
                names.append(self._source.describe(index))
        return (
            f'{" and ".join(dict.fromkeys(names))} cannot be decoded as JPEG, PNG, BMP or GIF; mend or '
            'remove it, or set data.skip_broken=True to count such images and go on'
        )

    def close(self) -> None:
        """Stops reading ahead; waits for what is under way."""
        self._is_closed = True
        # Used up rather than dropped: while one of its threads waits for Python, dropping TensorFlow's
        # iterator was seen to block for half a minute.
        exhausted = False
        while not exhausted:
            with contextlib.suppress(tf.errors.InvalidArgumentError):  # Of a broken image.
                exhausted = next(self._batches, None) is None
        self._readers.shutdown(cancel_futures=True)


def _or_fail(decode_fn: _Decode) -> _Decode:
    return lambda encoded, label, seed: (decode_fn(encoded, seed), label, True)


def _or_blank(decode_fn: _Decode, blank: np.ndarray) -> _Decode:
    """A blank image, and False, in place of one that cannot be decoded; costs a fifth to a third more."""

    def run(encoded: tf.Tensor, label: tf.Tensor, seed: tf.Tensor) -> tuple[tf.Tensor, ...]:
        # Datasets alone can catch an operation's error, so each image becomes one of a single element.
        whole = tf.data.Dataset.from_tensors((encoded, seed)).map(lambda e, s: (decode_fn(e, s), True))
        instead = tf.data.Dataset.from_tensors((tf.constant(blank), False))
        image, is_whole = whole.ignore_errors().concatenate(instead).take(1).get_single_element()
        return image, label, is_whole

    return run
