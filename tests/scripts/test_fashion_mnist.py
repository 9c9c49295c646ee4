"""Debian's files of Fashion-MNIST become the published ones, and TFDS's own builder takes those."""

import dataclasses
import gzip
import hashlib
import io
import struct

import golden_numbers
import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image
from tensorflow_datasets.image_classification import mnist

from nfnets import build
from nfnets import config as config_lib
from nfnets.configs import fashion_mnist
from nfnets.errors import InputError
from nfnets.models.networks import NETWORKS

LABELS = 't10k-labels-idx1-ubyte.gz'


@pytest.fixture
def script(experiment):
    return experiment('fashion_mnist')


def _published():
    """What TFDS knows of the published files, by name."""
    return {info.filename: info for info in tfds.builder_cls('fashion_mnist').url_infos.values()}


def test_debians_file_is_restored_to_the_one_that_tfds_asks_for(script):
    known = _published()[LABELS]
    content = script.published(golden_numbers.DIRECTORY / LABELS, known.checksum)
    assert hashlib.sha256(content).hexdigest() == known.checksum
    assert len(content) == known.size


def test_a_published_file_stays_as_it_is_and_another_is_named(script, tmp_path):
    known = _published()[LABELS]
    restored = script.published(golden_numbers.DIRECTORY / LABELS, known.checksum)
    (tmp_path / LABELS).write_bytes(restored)
    assert script.published(tmp_path / LABELS, known.checksum) == restored
    (tmp_path / LABELS).write_bytes(restored[:-1])
    with pytest.raises(
        InputError, match=rf'{LABELS} is not the published file: its SHA-256 is .*{known.checksum}'
    ):
        script.published(tmp_path / LABELS, known.checksum)
    with pytest.raises(InputError, match=r'missing/t10k-images-idx3-ubyte\.gz cannot be read: No such file'):
        script.main([str(tmp_path / 'missing'), str(tmp_path / 'data')])
    assert not (tmp_path / 'data').exists()


def _idx(values):
    head = struct.pack('>HBB', 0, 8, values.ndim) + struct.pack(f'>{values.ndim}I', *values.shape)
    return head + values.tobytes()


def test_tfds_builder_prepares_what_training_reads(script, monkeypatch, tmp_path):
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 256, (20, 28, 28), np.uint8), np.arange(20, dtype=np.uint8) % 10
    (tmp_path / 'idx').mkdir()
    digests = {}
    for name, time in script._TIMES.items():
        content = _idx(images if 'images' in name else labels)
        (tmp_path / 'idx' / f'{name}.gz').write_bytes(gzip.compress(content, mtime=0))
        # The published form, by Python's writer of it.
        path = tmp_path / name
        with path.open('wb') as file, gzip.GzipFile(name, 'wb', fileobj=file, mtime=time) as archive:
            archive.write(content)
        restored = bytearray(path.read_bytes())
        restored[8:10] = b'\0\3'  # What Python says of level and system.
        digests[f'{name}.gz'] = len(restored), hashlib.sha256(restored).hexdigest()
    infos = {
        url: dataclasses.replace(
            info, size=tfds.core.units.Size(digests[info.filename][0]), checksum=digests[info.filename][1]
        )
        for url, info in mnist.FashionMNIST.url_infos.items()
    }
    monkeypatch.setattr(mnist.FashionMNIST, 'url_infos', infos)
    monkeypatch.setattr(mnist, '_TRAIN_EXAMPLES', 20)
    monkeypatch.setattr(mnist, '_TEST_EXAMPLES', 20)
    script.main([str(tmp_path / 'idx'), str(tmp_path / 'data')])
    config = fashion_mnist.get_config()
    config.data.dir = str(tmp_path / 'data')
    for split in (config.data.train_split, config.data.eval_split):
        source = build.source(config, split)
        examples = [source.read(index) for index in range(len(source))]
        assert sorted(label for _, label in examples) == sorted(labels.tolist())
        there = {(np.asarray(Image.open(io.BytesIO(image))).tobytes(), label) for image, label in examples}
        assert there == {(image.tobytes(), label) for image, label in zip(images, labels, strict=True)}


@pytest.mark.parametrize('network', NETWORKS)
def test_every_network_has_a_recipe(network):
    config = fashion_mnist.get_config(network)
    config_lib.check(config)
    complete = config_lib.complete(config, num_examples=60_000, num_classes=10, num_devices=1)
    assert complete.model.name == network
    clipping = complete.optimizer.agc_clipping
    assert (clipping == float('inf')) == (network in ('BNNet', 'ResNet'))
