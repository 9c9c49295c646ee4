"""The interface that all sources of examples have in common."""

import functools
import itertools
from collections.abc import Callable, Sequence
from typing import Protocol, TypeAlias

import numpy as np

from nfnets.data.order import Order
from nfnets.errors import InputError

NO_LABEL = -1  # Fills up a set of labels.

Label: TypeAlias = int | np.ndarray
Example: TypeAlias = tuple[bytes, Label]


class Source(Protocol):
    """Encoded images with labels, read in any order; a source inherits what has a default.

    Attributes:
      class_names: name of each label, 0 first.
      warnings: what may be wrong with the data, one line each.
      label_shape: () where each example has one label, [L] where it has a set of up to L.
    """

    class_names: tuple[str, ...]
    warnings: tuple[str, ...]
    label_shape: tuple[int, ...] = ()

    def __len__(self) -> int:
        """Number of examples."""

    def order(self, seed: int) -> Callable[[np.ndarray], np.ndarray]:
        """The order in training: from positions in the stream, int64 [N], to indices, int64 [N]."""
        return Order(len(self), seed)

    def read(self, index: int) -> Example:
        """The encoded image (JPEG, PNG, WebP, BMP or GIF) and the label of one example; thread-safe.

        A set of labels is int32 [L], see `label_set`.
        """

    def start(self, index: int) -> Callable[[], Example]:
        """Begins to read one example, if it takes waiting; what is returned gives it. Thread-safe."""
        return functools.partial(self.read, index)

    def describe(self, index: int) -> str:
        """Names an example in a message."""

    def name(self, index: int) -> str:
        """The name of an example in its data set, such as that of its file; may read it."""
        return self.describe(index)

    def summary(self) -> str:
        """How many images there are, for messages."""
        return f'{len(self):,} images'


def label_set(labels: Sequence[int] | np.ndarray, most: int) -> np.ndarray:
    """A set of up to `most` labels as a source gives it: int32 [most], -1 in the places that are left."""
    places = np.full(most, NO_LABEL, np.int32)
    places[: len(labels)] = labels
    return places


def check_same_classes(names: Sequence[str], owner: str, others: Sequence[str], other_owner: str) -> None:
    """Refuses classes whose labels mean something else than those of others.

    They may lack the last of numbered classes: those of a split are as many as its largest label says.

    Args:
      names: of the classes to be like, 0 first.
      owner: what they are of, for messages, such as 'the training split'.
      others: of the classes that are checked.
      other_owner: what these are of.

    Raises:
      InputError: names the first class that differs.
    """
    for label, (name, other) in enumerate(itertools.zip_longest(names, others)):
        if other not in (name, None):
            has = 'does not have it' if name is None else f'has {name!r} there'
            raise InputError(f'label {label} of {other_owner} is the class {other!r}, and {owner} {has}')
