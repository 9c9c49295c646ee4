"""Some examples of a source, such as a few of each class."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from nfnets.data.source import Example, Source
from nfnets.errors import InputError
from nfnets.files import failure, file_errors

_READERS = 16  # Threads that wait for files.
_AT_ONCE = 256  # Examples that are read before it is looked what is lacking.


class Subset(Source):
    """Examples of another source, by their indices there."""

    def __init__(self, source: Source, indices: Sequence[int] | np.ndarray):
        """Args: indices are in the source, int [N]."""
        self._source = source
        self._indices = np.asarray(indices)
        self.class_names = source.class_names
        self.warnings = source.warnings
        self.label_shape = source.label_shape

    def __len__(self) -> int:
        return len(self._indices)

    def read(self, index: int) -> Example:
        return self._source.read(int(self._indices[index]))

    def start(self, index: int) -> Callable[[], Example]:
        return self._source.start(int(self._indices[index]))

    def describe(self, index: int) -> str:
        return self._source.describe(int(self._indices[index]))

    def name(self, index: int) -> str:
        return self._source.name(int(self._indices[index]))


def some_of_each_class(source: Source, count: int) -> np.ndarray:
    """Chooses examples of each class; a function of the source alone, always the same.

    Examples are read in a random order until there are enough.

    Args:
      source: of examples with one label each, K classes.
      count: of each class.

    Returns:
      int64 [count, K], indices in the source: one example of each class in every row.

    Raises:
      InputError: a class has fewer, or a file cannot be read.
      TrainingStopped: a bucket does not answer now.
    """
    order = np.random.default_rng(0).permutation(len(source))
    found: list[list[int]] = [[] for _ in source.class_names]
    missing = count * len(found)
    with ThreadPoolExecutor(_READERS, 'read') as readers:
        for begin in range(0, len(order), _AT_ONCE):
            indices = order[begin : begin + _AT_ONCE].tolist()
            for index, label in zip(indices, readers.map(lambda i: _label(source, i), indices), strict=True):
                if len(found[label]) < count:
                    found[label].append(index)
                    missing -= 1
            if not missing:
                return np.array(found, np.int64).T
    label = min(range(len(found)), key=lambda k: len(found[k]))
    raise InputError(
        f'the class {source.class_names[label]} has {len(found[label])} images, and {count} are wanted'
    )


def _label(source: Source, index: int) -> int:
    try:
        label = source.read(index)[1]
    except file_errors() as error:
        raise failure(f'{source.describe(index)} cannot be read: {error}', error) from error
    if not isinstance(label, int) or not 0 <= label < len(source.class_names):
        raise InputError(
            f'{source.describe(index)} has the label {label}; it must be one of 0 to '
            f'{len(source.class_names) - 1}'
        )
    return label
