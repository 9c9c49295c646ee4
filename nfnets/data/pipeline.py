"""Reads encoded images in Python threads and decodes them in tf.data's, in order."""

import collections
import contextlib
import errno
import itertools
import os
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np

from nfnets.data.source import NO_LABEL, Example, Label, Source
from nfnets.data.tensorflow import tf
from nfnets.errors import InputError, TrainingStopped
from nfnets.files import failure, file_errors, is_passing

_CORES = os.cpu_count() or 1
_DECODED_AT_ONCE = 2 * _CORES  # tf.data's own choice leaves a tenth of the cores idle.
_READERS = 16  # Threads that wait for files.
# Images that a bucket is asked for at once. It takes some 30 ms for each, in which a core decodes 15: twice
# that. 512 are 17,000 images/s.
_READ_AT_ONCE = min(32 * _CORES, 512)

# Out of memory or of open files: says nothing of the file, which is not broken.
_OF_THE_HOST = frozenset((errno.ENOMEM, errno.EMFILE, errno.ENFILE))

# Not by AutoGraph, which would look for loops of Python's, of which there are none.
_as_written = tf.autograph.experimental.do_not_convert
_Decode = Callable[..., Any]  # Of TensorFlow's graph functions.
_Reads = list[tuple[list[int], Future[list[Example]]]]  # Of some indices each.


class Work(NamedTuple):
    """One process's part of a batch: which examples, and what each is decoded with.

    Attributes:
      indices: of the examples in their source, int64 [N].
      geometry: of each, as `decode_fn` takes it, int64 [N, ...]: such as the seed of a random crop.
      mask: float32 [N], 0 for padding.
      rest: what whoever gave the work wants back with it.
    """

    indices: np.ndarray
    geometry: np.ndarray
    mask: np.ndarray
    rest: Any = None


class Pipeline:
    """Decoded images, in the order of the work that is given.

    Attributes:
      skipped: images that could not be decoded so far.
    """

    def __init__(
        self,
        source: Source,
        work: Iterator[Work],
        decode_fn: _Decode,
        image_size: int,
        dtype: tf.DType,
        skip_broken: bool,
        needs_label: bool = False,
    ):
        """Starts to read ahead.

        Args:
          source: of the examples, K classes.
          work: parts of batches, all of the same size N.
          decode_fn: TensorFlow's (encoded string [], geometry int64 [...]) to an image [S, S, 3].
          image_size: S, px.
          dtype: of the images.
          skip_broken: whether examples that are broken are blank, and counted, instead of an error.
          needs_label: whether an example with an empty set of labels is broken.
        """
        tf.config.set_visible_devices([], 'GPU')  # The accelerator is the network's.
        self._source = source
        self._skip_broken = skip_broken
        self._needs_label = needs_label
        self._readers = ThreadPoolExecutor(_READERS, 'read')
        self._under_way: collections.deque[Work] = collections.deque()
        self._error: Exception | None = None
        self._is_closed = False
        self.skipped = 0
        first = next(work)
        dataset = tf.data.Dataset.from_generator(
            lambda: self._encoded(itertools.chain([first], work)),
            output_signature=(
                tf.TensorSpec((None,), tf.string),
                tf.TensorSpec((None, *source.label_shape), tf.int32),
                tf.TensorSpec((None, *first.geometry.shape[1:]), tf.int64),
            ),
        )
        options = tf.data.Options()
        options.deterministic = True
        # Nothing is left to it, and its thread lets whoever drops the iterator wait, for seconds at least.
        options.autotune.enabled = False
        self._decode_fn = decode_fn
        if skip_broken:
            decode_fn = _or_blank(decode_fn, np.zeros((image_size, image_size, 3), dtype.as_numpy_dtype))
        else:
            decode_fn = _or_fail(decode_fn)
        self._batches = iter(
            dataset.prefetch(1)  # Files are read while those before them are decoded.
            .unbatch()
            .map(decode_fn, num_parallel_calls=_DECODED_AT_ONCE)
            .batch(len(first.indices))
            .prefetch(2)
            .with_options(options)
        )

    def _encoded(self, work: Iterator[Work]) -> Iterator[tuple[list[bytes], list[Label], np.ndarray]]:
        try:
            for part, groups in self._read_ahead(work):
                if self._is_closed:
                    return
                of_index: dict[int, Example] = {}
                for indices, read in groups:
                    of_index.update(zip(indices, read.result(), strict=True))
                examples = [of_index[index] for index in part.indices.tolist()]
                self._under_way.append(part)
                yield [e[0] for e in examples], [e[1] for e in examples], part.geometry
        except Exception as error:  # Raised again by `next`: tf.data would bury it in its own.
            self._error = error

    def _read_ahead(self, work: Iterator[Work]) -> Iterator[tuple[Work, _Reads]]:
        """Each part with what reads it, once enough of those after it are being read."""
        size = _READ_AT_ONCE // _READERS
        ahead: collections.deque[tuple[Work, _Reads]] = collections.deque()
        for part in work:
            indices = list(dict.fromkeys(part.indices.tolist()))  # Each is read once.
            groups = [indices[i : i + size] for i in range(0, len(indices), size)]
            ahead.append((part, [(group, self._readers.submit(self._read, group)) for group in groups]))
            if (len(ahead) - 1) * len(indices) >= _READ_AT_ONCE:
                yield ahead.popleft()
        yield from ahead

    def _read(self, indices: list[int]) -> list[Example]:
        started = [self._source.start(index) for index in indices]  # A bucket is asked for all of them.
        return [self._finish(index, read) for index, read in zip(indices, started, strict=True)]

    def _finish(self, index: int, read: Callable[[], Example]) -> Example:
        try:
            encoded, label = read()
        except file_errors(MemoryError) as error:
            message = f'{self._source.describe(index)} cannot be read'
            if isinstance(error, MemoryError):
                raise TrainingStopped(f'{message}: out of memory of the host') from error
            if getattr(error, 'errno', None) in _OF_THE_HOST:
                raise TrainingStopped(f'{message}: {error}') from error
            if is_passing(error) or not self._skip_broken:
                raise failure(f'{message}: {error}', error) from error
            return self._nothing
        problem = self._problem(label)
        if problem is None:
            return encoded, label
        if self._skip_broken:
            return self._nothing
        raise InputError(f'{self._source.describe(index)} {problem}')

    @property
    def _nothing(self) -> Example:
        """In place of an example that is skipped: no image, which cannot be decoded."""
        return b'', np.full(self._source.label_shape, NO_LABEL, np.int32)

    def _problem(self, label: Label) -> str | None:
        num_classes, least = len(self._source.class_names), NO_LABEL if self._source.label_shape else 0
        labels = np.ravel(label)
        outside = labels[(labels < least) | (labels >= num_classes)]
        if outside.size:
            return f'has the label {outside[0]}; the {num_classes} classes have 0 to {num_classes - 1}'
        if self._needs_label and np.all(labels == NO_LABEL):
            return "has no label; train.loss='sigmoid' would take it for one of no class"
        return None

    def next(self) -> tuple[Work, np.ndarray, np.ndarray, np.ndarray]:
        """The next part of a batch.

        Returns:
          Its work; images [N, S, S, 3] of the dtype given; labels, int32 [N] or [N, L]; and which images are
          whole, bool [N]: the others are blank.

        Raises:
          InputError: an image cannot be decoded or a file read, or a label is not below K.
          TrainingStopped: a file cannot be read now.
          StopIteration: there is no more work.
        """
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

    def _name_broken(self, work: Work) -> str:
        # tf.data does not say which example failed: they are tried again, one by one.
        names = []
        for index, geometry in zip(work.indices.tolist(), work.geometry, strict=True):
            try:
                self._decode_fn(tf.constant(self._source.read(index)[0]), tf.constant(geometry))
            except tf.errors.InvalidArgumentError:
                names.append(self._source.describe(index))
        return (
            f'{" and ".join(dict.fromkeys(names))} cannot be decoded as JPEG, PNG, WebP, BMP or GIF; mend '
            'or remove it, or set data.skip_broken=True to skip and count such images'
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
        # The pipeline lives on until the collector comes, as TensorFlow's graph leads back to it.
        self._batches = iter(())
        self._readers.shutdown(cancel_futures=True)


def _or_fail(decode_fn: _Decode) -> _Decode:
    return _as_written(lambda encoded, label, geometry: (decode_fn(encoded, geometry), label, True))


def _or_blank(decode_fn: _Decode, blank: np.ndarray) -> _Decode:
    """A blank image, and False, in place of one that cannot be decoded; costs a fifth to a third more."""

    @_as_written
    def run(encoded: tf.Tensor, label: tf.Tensor, geometry: tf.Tensor) -> tuple[tf.Tensor, ...]:
        # Datasets alone can catch an operation's error, so each image becomes one of a single element.
        decoded = _as_written(lambda encoded, geometry: (decode_fn(encoded, geometry), True))
        whole = tf.data.Dataset.from_tensors((encoded, geometry)).map(decoded)
        instead = tf.data.Dataset.from_tensors((tf.constant(blank), False))
        image, is_whole = whole.ignore_errors().concatenate(instead).take(1).get_single_element()
        return image, label, is_whole

    return run
