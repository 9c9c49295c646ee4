"""Tars of WebDataset's form, and real images for them: digits and garments."""

import io
import tarfile
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits

GARMENTS = ('T-shirt', 'trouser', 'pullover', 'dress', 'coat', 'sandal', 'shirt', 'sneaker', 'bag', 'boot')


def write_tar(path, files, form=tarfile.PAX_FORMAT, mtime=0):
    """Writes a tar of files, (name, content) each."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, 'w', format=form) as tar:
        for name, content in files:
            member = tarfile.TarInfo(name)
            member.size, member.mtime = len(content), mtime
            tar.addfile(member, io.BytesIO(content))


def encode(pixels, form='WEBP'):
    """The file of an image, uint8 [H, W] or [H, W, 3]; no level is lost."""
    file = io.BytesIO()
    Image.fromarray(pixels).convert('RGB').save(file, form, **({'lossless': True} if form == 'WEBP' else {}))
    return file.getvalue()


def digits():
    """The 1,797 digits, uint8 [N, 8, 8], and their labels."""
    found = load_digits()
    return np.rint(found.images * (255 / 16)).astype(np.uint8), found.target


def garments():
    """Eight garments of each class of Fashion-MNIST, uint8 [80, 28, 28], and their labels."""
    sheet = np.asarray(Image.open(Path(__file__).parent / 'golden' / 'garments.png'))
    return sheet.reshape(10, 28, 8, 28).swapaxes(1, 2).reshape(80, 28, 28), np.repeat(np.arange(10), 8)


def write_digits(directory, split, shards, examples_per_shard, first=0):
    """Writes DIR/digits-SPLIT-0000.tar and so on; the next digits from the first on."""
    pixels, labels = digits()
    for shard in range(shards):
        files = []
        for i in range(first, first + examples_per_shard):
            files += [(f'digit_{i:04}.cls', b'%d' % labels[i]), (f'digit_{i:04}.webp', encode(pixels[i]))]
        write_tar(directory / f'digits-{split}-{shard:04}.tar', files)
        first += examples_per_shard
