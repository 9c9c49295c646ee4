"""Handwritten digits that come with scikit-learn: 1,797 real images of 8 x 8 px, ten classes."""

import functools

import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from nfnets.data.source import Source
from nfnets.data.tensorflow import tf
from nfnets.errors import InputError

_HELD_OUT = 360  # A fifth.
_SPLIT_SEED = 0  # The fifth held out is always the same.


class DigitsSource(Source):
    """The digits as PNG files in memory, so that they take the way of any encoded image."""

    class_names = tuple(str(digit) for digit in range(10))
    warnings: tuple[str, ...] = ()

    def __init__(self, split: str):
        """Args: split is 'train' or 'eval', a fifth of each class; InputError on any other."""
        splits = ('train', 'eval')
        if split not in splits:
            raise InputError(f'the digits have no split {split!r}; there are {", ".join(splits)}')
        self._encoded, self._labels = _digits()
        halves = train_test_split(
            np.arange(len(self._labels)),
            test_size=_HELD_OUT,
            random_state=_SPLIT_SEED,
            stratify=self._labels,
        )
        self._split = split
        self._indices = np.sort(halves[splits.index(split)])

    def __len__(self) -> int:
        return len(self._indices)

    def read(self, index: int) -> tuple[bytes, int]:
        digit = self._indices[index]
        return self._encoded[digit], int(self._labels[digit])

    def describe(self, index: int) -> str:
        return f'digit {self._indices[index]} ({self._split})'


@functools.cache
def _digits() -> tuple[list[bytes], np.ndarray]:
    """All of them, encoded, and their labels."""
    digits = load_digits()
    pixels = np.rint(digits.images * (255 / 16)).astype(np.uint8)
    return [tf.io.encode_png(image[..., None]).numpy() for image in pixels], digits.target
