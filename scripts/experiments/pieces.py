"""What scenes are put together from: garments, handwritten digits, and photographs to lay them on."""

import gzip
import io
import struct
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image
from sklearn.datasets import load_sample_images

from nfnets.data.digits import DigitsSource
from nfnets.errors import InputError

GARMENTS = Path('/usr/share/datasets/fashion-mnist')  # Where Debian's package has Fashion-MNIST's files.
# Fashion-MNIST's, by label, and after them the digits 0 to 9.
_GARMENTS = ('T-shirt/top', 'Trouser', 'Pullover', 'Dress', 'Coat', 'Sandal', 'Shirt', 'Sneaker', 'Bag')
CLASSES = (*_GARMENTS, 'Ankle boot', *map(str, range(10)))
_DIGITS_FROM = 10
_FAINT = 64  # Level up to which digits, drawn in gray on 8 x 8 px, are taken for black.
# Of each split, Fashion-MNIST's own name, that of the digits, and its columns of each photograph.
_SPLITS = {'train': ('train', 'train', (0.0, 0.7)), 'val': ('t10k', 'eval', (0.7, 1.0))}
_IMAGES, _LABELS = 2051, 2049  # The first four bytes of IDX files of bytes in three dimensions and in one.


class Pieces(NamedTuple):
    """What the scenes of a split are put together from.

    Attributes:
      garments: uint8 [N, 28, 28], light on black.
      garment_labels: uint8 [N].
      digits: uint8 [M, 8, 8], light on black.
      digit_labels: [M], of `CLASSES`.
      photographs: each uint8 [H, W, 3].
    """

    garments: np.ndarray
    garment_labels: np.ndarray
    digits: np.ndarray
    digit_labels: np.ndarray
    photographs: tuple[np.ndarray, ...]

    def draw(self, rng: np.random.Generator) -> tuple[np.ndarray, int]:
        """A piece [H, W] and its label: one of the 20 classes, then one of that class, each alike."""
        label = int(rng.integers(len(CLASSES)))
        is_digit = label >= _DIGITS_FROM
        labels = self.digit_labels if is_digit else self.garment_labels
        chosen = rng.choice(np.flatnonzero(labels == label))
        return (self.digits if is_digit else self.garments)[chosen], label


def load_pieces(garments: Path, split: str) -> Pieces:
    """The pieces of a split, 'train' or 'val', which share none.

    Args:
      garments: directory of Fashion-MNIST's four IDX files, as Debian's package `dataset-fashion-mnist` has
        them.
      split: 'train' or 'val'.

    Raises:
      InputError: a file is missing or not as expected.
    """
    name, of_digits, columns = _SPLITS[split]
    images = _read_idx(garments / f'{name}-images-idx3-ubyte.gz', _IMAGES)
    labels = _read_idx(garments / f'{name}-labels-idx1-ubyte.gz', _LABELS)
    if len(images) != len(labels) or set(labels.tolist()) != set(range(_DIGITS_FROM)):
        raise InputError(f'{garments} has {len(images)} {name} images and {len(labels)} labels of 0 to 9')
    digits = DigitsSource(of_digits)
    read = [digits.read(index) for index in range(len(digits))]
    pixels = np.stack([np.asarray(Image.open(io.BytesIO(encoded)).convert('L')) for encoded, _ in read])
    strokes = (np.maximum(pixels, _FAINT) - _FAINT) * (255 / (255 - _FAINT))
    digit_labels = _DIGITS_FROM + np.array([label for _, label in read])
    whole = load_sample_images().images
    parts = [[int(share * photo.shape[1]) for share in columns] for photo in whole]
    photographs = tuple(photo[:, first:last] for photo, (first, last) in zip(whole, parts, strict=True))
    return Pieces(images, labels, strokes.round().astype(np.uint8), digit_labels, photographs)


def _read_idx(path: Path, kind: int) -> np.ndarray:
    """An array of bytes of an IDX file (http://yann.lecun.com/exdb/mnist has the form), compressed."""
    try:
        content = gzip.decompress(path.read_bytes())
        (found,) = struct.unpack('>I', content[:4])
        dimensions = found & 0xFF
        shape = struct.unpack(f'>{dimensions}I', content[4 : 4 + 4 * dimensions])
        array = np.frombuffer(content, np.uint8, offset=4 + 4 * dimensions).reshape(shape)
    except FileNotFoundError as error:
        raise InputError(
            f'{path} is missing; apt-get install dataset-fashion-mnist brings it, and --garments=DIR says '
            'where it is'
        ) from error
    except (OSError, EOFError, struct.error, ValueError) as error:
        raise InputError(f'{path} cannot be read as a compressed IDX file: {error}') from error
    if found != kind:
        raise InputError(f'{path} begins with {found}; expected {kind}')
    return array
