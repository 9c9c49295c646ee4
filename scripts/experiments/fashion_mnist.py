"""Unpacks Fashion-MNIST into a folder of PNG files that `data.source=folder` reads.

    python scripts/experiments/fashion_mnist.py /usr/share/datasets/fashion-mnist DATA

SOURCE holds the four IDX files as they are published, {train,t10k}-{images-idx3,labels-idx1}-ubyte.gz: those
of Debian's package dataset-fashion-mnist, for example. DATA/train/CLASS/*.png gets 60,000 images of 28 x 28
px and DATA/val/CLASS/*.png 10,000, in ten classes.
"""

import gzip
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from nfnets.commands.command_line import Parser, run
from nfnets.errors import InputError

CLASSES = (
    't_shirt',
    'trouser',
    'pullover',
    'dress',
    'coat',
    'sandal',
    'shirt',
    'sneaker',
    'bag',
    'ankle_boot',
)
_SPLITS = {'train': 'train', 'val': 't10k'}
_UNSIGNED_BYTES = 8  # IDX's code of the element type.


def read_idx(path: Path) -> np.ndarray:
    """Reads one gzipped IDX file of unsigned bytes, of whatever shape.

    Raises:
      InputError: it is missing, damaged, or of another form.
    """
    try:
        content = gzip.decompress(path.read_bytes())
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f'{path} cannot be read: {error}') from error
    if len(content) < 4 or content[:3] != bytes((0, 0, _UNSIGNED_BYTES)):
        raise InputError(f'{path} is no IDX file of unsigned bytes')
    num_axes = content[3]
    shape = np.frombuffer(content, '>i4', num_axes, offset=4).tolist()
    values = np.frombuffer(content, np.uint8, offset=4 + 4 * num_axes)
    if values.size != np.prod(shape):
        raise InputError(f'{path} is damaged: it holds {values.size} values where {shape} are promised')
    return values.reshape(shape)


def main(argv: Sequence[str]) -> None:
    """Unpacks all four files.

    Raises:
      InputError: a file cannot be read, or the target is not empty.
    """
    parser = Parser(__doc__)
    parser.add_argument('source', type=Path)
    parser.add_argument('target', type=Path, help='must not exist, or be empty')
    arguments = parser.parse_args(argv)
    target = arguments.target
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise InputError(f'{target} exists already and is not empty: give another name')
    for split, prefix in _SPLITS.items():
        images = read_idx(arguments.source / f'{prefix}-images-idx3-ubyte.gz')
        labels = read_idx(arguments.source / f'{prefix}-labels-idx1-ubyte.gz')
        for name in CLASSES:
            (target / split / name).mkdir(parents=True)
        for index, (image, label) in enumerate(zip(images, labels, strict=True)):
            Image.fromarray(image).save(target / split / CLASSES[label] / f'{index:05}.png')
        print(f'{target / split}: {len(labels):,} images')


if __name__ == '__main__':
    run(main)
