"""Fashion-MNIST's IDX files become a folder that training reads."""

import gzip
import importlib
import struct

import numpy as np
import pytest
import training_runs
from PIL import Image

from nfnets.data.folder import FolderSource
from nfnets.errors import InputError


@pytest.fixture
def script(monkeypatch):
    monkeypatch.syspath_prepend(training_runs.ROOT / 'scripts' / 'experiments')
    return importlib.import_module('fashion_mnist')


def _idx(values):
    head = struct.pack('>HBB', 0, 8, values.ndim) + struct.pack(f'>{values.ndim}I', *values.shape)
    return gzip.compress(head + values.tobytes())


def _write(folder, count=20):
    folder.mkdir()
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (count, 28, 28), np.uint8)
    labels = np.arange(count, dtype=np.uint8) % 10
    for prefix in ('train', 't10k'):
        (folder / f'{prefix}-images-idx3-ubyte.gz').write_bytes(_idx(images))
        (folder / f'{prefix}-labels-idx1-ubyte.gz').write_bytes(_idx(labels))
    return images, labels


def test_every_image_lies_in_the_folder_of_its_class(script, tmp_path):
    images, labels = _write(tmp_path / 'idx')
    arguments = [str(tmp_path / 'idx'), str(tmp_path / 'data')]
    script.main(arguments)
    for split in ('train', 'val'):
        source = FolderSource(tmp_path / 'data', split)
        assert len(source) == len(images)
        assert source.warnings == ()
    for index, (image, label) in enumerate(zip(images, labels, strict=True)):
        path = tmp_path / 'data' / 'val' / script.CLASSES[label] / f'{index:05}.png'
        np.testing.assert_array_equal(np.asarray(Image.open(path)), image)
    with pytest.raises(InputError, match='data exists already and is not empty'):
        script.main(arguments)


@pytest.mark.parametrize(
    ('content', 'message'),
    [
        (b'no gzip', 'cannot be read: Not a gzipped file'),
        (_idx(np.zeros((2, 3), np.uint8))[:-12], 'cannot be read'),
        (gzip.compress(b'\0\0\x0d\1' + b'\0' * 8), 'is no IDX file of unsigned bytes'),
        (
            gzip.compress(struct.pack('>HBBI', 0, 8, 1, 5) + b'1234'),
            r'holds 4 values where \[5\] are promised',
        ),
    ],
    ids=['not compressed', 'cut short', 'of floats', 'values missing'],
)
def test_a_broken_file_is_named(content, message, script, tmp_path):
    (tmp_path / 'x.gz').write_bytes(content)
    with pytest.raises(InputError, match=rf'x\.gz .*{message}'):
        script.read_idx(tmp_path / 'x.gz')
