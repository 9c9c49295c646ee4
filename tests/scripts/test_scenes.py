"""Scenes made of stand-ins for Fashion-MNIST's garments, of scikit-learn's digits and its photographs."""

import gzip
import importlib
import json
import struct

import numpy as np
import pytest
import training_runs
from PIL import Image
from sklearn.datasets import load_digits

from nfnets.detection.examples import CocoExamples
from nfnets.errors import InputError

COUNTS = {'train': 12, 'val': 5}


@pytest.fixture(scope='module')
def script():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(training_runs.ROOT / 'scripts' / 'experiments')
        yield importlib.import_module('scenes')


def _write_idx(path, array):
    header = struct.pack(f'>I{array.ndim}I', 2048 + array.ndim, *array.shape)
    path.write_bytes(gzip.compress(header + array.tobytes()))


@pytest.fixture(scope='module')
def garments(tmp_path_factory):
    """Digits of 24 x 24 px in the files of Fashion-MNIST, those of both splits apart."""
    directory = tmp_path_factory.mktemp('garments')
    digits = load_digits()
    pixels = np.pad((digits.images * 15).astype(np.uint8).repeat(3, 1).repeat(3, 2), ((0, 0), (2, 2), (2, 2)))
    for name, part in (('train', slice(0, 60)), ('t10k', slice(60, 120))):
        _write_idx(directory / f'{name}-images-idx3-ubyte.gz', pixels[part])
        _write_idx(directory / f'{name}-labels-idx1-ubyte.gz', digits.target[part].astype(np.uint8))
    return directory


@pytest.fixture(scope='module')
def make(script, garments):
    def run(target, *words):
        counts = [f'--{split}={count}' for split, count in COUNTS.items()]
        script.main([str(target), f'--garments={garments}', *counts, *words])
        return target

    return run


@pytest.fixture(scope='module')
def scenes(make, tmp_path_factory):
    return make(tmp_path_factory.mktemp('scenes') / 'set')


def test_a_set_is_in_the_form_of_coco_with_20_classes(scenes):
    for split, count in COUNTS.items():
        examples = CocoExamples(scenes, split)  # Checks masks, boxes, ids and files.
        assert len(examples) == count
        assert len(set(examples.class_names)) == 20
        assert examples.class_names[:2] == ('T-shirt/top', 'Trouser')
        assert examples.class_names[10:] == tuple('0123456789')
        assert 2 < np.mean([len(image.labels) for image in examples.file.images]) < 8
        for index in range(count):
            examples.read(index)  # Checks its size.


def _objects(scenes):
    examples = CocoExamples(scenes, 'train')
    for index in range(len(examples)):
        image = examples.annotated(index)
        pixels = np.asarray(Image.open(examples.describe(index)), float)
        yield image, pixels, [image.mask(i) for i in range(len(image.labels))]


def test_boxes_and_areas_are_those_of_the_pixels_that_are_seen(scenes):
    sides = []
    for image, pixels, masks in _objects(scenes):
        assert pixels.shape == (128, 128, 3)
        assert np.sum(masks, axis=0).max(initial=0) <= 1  # Nothing is seen through another.
        for mask, box, area in zip(masks, image.boxes, image.areas, strict=True):
            rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
            np.testing.assert_array_equal(box, [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1])
            assert area == mask.sum()
            sides.append(max(box[2:] - box[:2]))
    assert 6 <= min(sides) < 30
    assert 45 < max(sides) <= 64


def test_what_a_mask_holds_is_of_one_tint(scenes):
    def spread(colors):
        """The share of pixels [P, 3] that is not shades of one color."""
        return 1 - np.linalg.norm(colors, 2) ** 2 / np.sum(colors**2)

    inside, around = [], []
    for _, pixels, masks in _objects(scenes):
        for mask in masks:
            wide = np.pad(mask, 3)
            ring = np.any([np.roll(wide, (y, x), (0, 1)) for y in (-3, 0, 3) for x in (-3, 0, 3)], axis=0)
            inside.append(spread(pixels[mask]))
            around.append(spread(pixels[ring[3:-3, 3:-3] & ~mask]))
    assert max(inside) < 0.003
    assert np.median(around) > 5 * max(inside)


def test_the_same_seed_gives_the_same_set_and_another_another(make, scenes, tmp_path):
    def contents(directory):
        return {path.relative_to(directory): path.read_bytes() for path in directory.rglob('*.*')}

    assert len(contents(scenes)) == 2 + sum(COUNTS.values())
    assert contents(make(tmp_path / 'again')) == contents(scenes)
    # An image is the same however many there are.
    more = contents(make(tmp_path / 'more', '--train=13'))
    kept = {path for path in contents(scenes) if path.suffix == '.jpg'}
    assert all(more[path] == contents(scenes)[path] for path in kept)
    other = contents(make(tmp_path / 'other', '--seed=1', '--train=1', '--val=1'))
    assert all(other[path] != contents(scenes)[path] for path in other)


def test_what_is_missing_or_there_already_is_named(script, make, scenes, garments, tmp_path):
    def refused(words, message):
        with pytest.raises(InputError, match=message):
            script.main([str(word) for word in words])

    target = tmp_path / 'set'
    refused([target, f'--garments={tmp_path}'], r'train-images-idx3-ubyte\.gz is missing; apt-get install')
    refused([target, f'--garments={garments}', '--val=0'], '--val and --seed are 5000, 0 and 0')
    for name in ('train-images-idx3-ubyte.gz', 'train-labels-idx1-ubyte.gz'):
        (tmp_path / name).write_bytes((garments / name).read_bytes())
    (tmp_path / 't10k-images-idx3-ubyte.gz').write_bytes(
        (garments / 'train-labels-idx1-ubyte.gz').read_bytes()
    )
    refused([target, f'--garments={tmp_path}'], r't10k-images-idx3-ubyte\.gz begins with 2049; expected 2051')
    (tmp_path / 't10k-images-idx3-ubyte.gz').write_bytes(gzip.compress(b'\0\0\10\3' + bytes(20)))
    refused([target, f'--garments={tmp_path}'], 'cannot be read as a compressed IDX file')
    assert not target.exists()
    before = (scenes / 'annotations' / 'instances_train.json').read_bytes()
    with pytest.raises(InputError, match=r'holds a set already: .*instances_train\.json; remove it first'):
        make(scenes, '--seed=1')
    assert (scenes / 'annotations' / 'instances_train.json').read_bytes() == before
    assert len(json.loads(before)['images']) == COUNTS['train']
