"""A tiny ImageNet, made by TFDS's own `imagenet2012` builder from tar files of its form."""

import io
import tarfile
from pathlib import Path

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

SYNSETS = ('n01440764', 'n01443537', 'n01484850')
VALIDATION_IMAGES = 37


def prepare(data_dir: Path, train_images: int = 60, file_format: str = 'tfrecord') -> None:
    """Prepares `imagenet2012` in data_dir; train_images over three classes, 37 to validate."""
    manual = data_dir / 'downloads' / 'manual'
    manual.mkdir(parents=True)
    rng = np.random.default_rng(0)
    with tarfile.open(manual / 'ILSVRC2012_img_train.tar', 'w') as outer:
        for k, synset in enumerate(SYNSETS):
            inner_bytes = io.BytesIO()
            with tarfile.open(fileobj=inner_bytes, mode='w') as inner:
                for i in range(k, train_images, len(SYNSETS)):
                    _add(inner, f'{synset}_{i}.JPEG', jpeg(rng))
            _add(outer, f'{synset}.tar', inner_bytes.getvalue())
    with tarfile.open(manual / 'ILSVRC2012_img_val.tar', 'w') as outer:
        for i in range(1, VALIDATION_IMAGES + 1):
            _add(outer, f'ILSVRC2012_val_{i:08d}.JPEG', jpeg(rng))
    builder = tfds.builder('imagenet2012', data_dir=data_dir, file_format=file_format)
    builder.download_and_prepare(
        download_config=tfds.download.DownloadConfig(manual_dir=manual, num_shards=None)
    )


def _add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    archive.addfile(info, io.BytesIO(content))


def jpeg(rng: np.random.Generator) -> bytes:
    """A small image of random colors and sides."""
    height, width = rng.integers(40, 90, 2)
    coarse = rng.integers(0, 256, (5, 5, 3)).astype(np.uint8)
    image = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
    file = io.BytesIO()
    image.save(file, 'JPEG')
    return file.getvalue()
