"""A run's detector on images: as in its evaluations; printed, and drawn."""

import csv
import io
import json

import detection_runs
import jax
import numpy as np
import pytest
import small_runs
from coco_sets import write_set
from PIL import Image
from pycocotools import mask as mask_lib

from nfnets.commands import predict
from nfnets.detection.batches import eval_batches
from nfnets.detection.drawing import draw_found
from nfnets.detection.examples import CocoExamples
from nfnets.detection.image_detections import put_back
from nfnets.errors import InputError
from nfnets.inference import detector as detector_lib
from nfnets.inference.detector import Detector

COUNT = 3


@pytest.fixture(scope='module')
def run(tmp_path_factory):
    """(working directory, config, examples) of images of several shapes."""
    directory = tmp_path_factory.mktemp('detector')
    rng = np.random.default_rng(0)
    images = []
    for _ in range(COUNT):
        height, width = (int(side) for side in rng.integers(40, 150, 2))
        mask = np.zeros((height, width), bool)
        mask[5:25, 10:30] = True
        photo = rng.integers(0, 256, (4, 5, 3), np.uint8)
        images.append((np.asarray(Image.fromarray(photo).resize((width, height))), [(1, mask, False)]))
    data = write_set(directory / 'data', 'val', images)
    workdir, config = detection_runs.write(directory / 'run', data)
    return workdir, config, CocoExamples(data, 'val')


@pytest.fixture(scope='module')
def detector(run):
    return Detector(run[0], ema=True)


@pytest.fixture(scope='module')
def found(run, detector):
    _, _, examples = run
    return list(detector.detect(examples.describe(i) for i in range(COUNT)))


def test_images_are_seen_as_in_evaluations_by_the_ema(run, detector, found, monkeypatch):
    _, config, examples = run
    (batch,) = eval_batches(examples, size=detection_runs.SIDE, batch_size=4, skip_broken=False)
    seen, outcomes = [], []

    def watched(*arguments):
        seen.append(arguments)
        outcomes.append(original(*arguments))
        return outcomes[-1]

    original = detector._run
    monkeypatch.setattr(detector, '_run', watched)
    again = list(detector.detect(examples.describe(i) for i in range(COUNT)))
    ((params, network_state), images, image_sizes), *_ = seen
    jax.tree.map(np.testing.assert_array_equal, params, detection_runs.state(config).ema_params)
    assert network_state == {}
    np.testing.assert_array_equal(images, batch['images'])
    np.testing.assert_array_equal(image_sizes, batch['image_sizes'])
    detections, masks = jax.device_get(outcomes[0])
    assert sum(len(each.objects.scores) for each in found) > COUNT
    for index, each in enumerate(found):
        with Image.open(each.image) as image:
            np.testing.assert_array_equal(each.pixels, np.asarray(image))
        one = jax.tree.map(lambda x, index=index: x[index], detections)
        expected = put_back(one, masks[index], *examples.annotated(index).size, detection_runs.SIDE)
        jax.tree.map(np.testing.assert_array_equal, each.objects, expected)
        jax.tree.map(np.testing.assert_array_equal, each.objects, again[index].objects)
    assert (detector.step, detector.class_names) == (detection_runs.STEP, examples.class_names)


def _print(run, capsys, *words):
    workdir, _, examples = run
    images = [examples.describe(i) for i in range(COUNT)]
    predict._predict([*images, f'--checkpoint={workdir}', '--ema', *words])
    return capsys.readouterr().out


def test_objects_are_printed_for_people_and_programs(run, detector, found, capsys, monkeypatch):
    monkeypatch.setattr(detector_lib, 'Detector', lambda *_, **__: detector)  # It is compiled already.
    scores = np.concatenate([each.objects.scores for each in found])
    least = float(np.median(scores))
    shown = [[k for k, score in enumerate(each.objects.scores) if score >= least] for each in found]
    lines = _print(run, capsys, '--json', f'--least={least:.9f}').splitlines()
    for line, each, ranks in zip(map(json.loads, lines), found, shown, strict=True):
        assert line['image'] == each.image
        assert len(line['objects']) == len(ranks)
        for one, k in zip(line['objects'], ranks, strict=True):
            assert one['name'] == ('left', 'middle', 'right')[one['label']]
            assert one['label'] == each.objects.labels[k]
            assert one['score'] == pytest.approx(each.objects.scores[k], abs=1e-5)
            mask = mask_lib.decode({**one['mask'], 'counts': one['mask']['counts'].encode()})
            np.testing.assert_array_equal(mask, each.objects.mask(k))
            assert one['box'] == pytest.approx(each.objects.boxes[k], abs=0.01)
    rows = list(csv.reader(io.StringIO(_print(run, capsys, '--csv', f'--least={least:.9f}'))))
    assert rows[0] == ['image', 'rank', 'label', 'name', 'score', 'left', 'top', 'right', 'bottom']
    assert [row[0] for row in rows[1:]] == [
        each.image for each, ranks in zip(found, shown, strict=True) for _ in ranks
    ]
    text = _print(run, capsys, f'--least={least:.9f}')
    assert text.count('%') == len(rows) - 1
    assert all(each.image in text for each in found)
    assert _print(run, capsys, '--least=1').splitlines() == [each.image for each in found]


def test_objects_are_drawn_beside_nothing_that_is_there(run, found, capsys, tmp_path):
    workdir, _, examples = run
    sources = [tmp_path / 'a.png', tmp_path / 'other' / 'a.jpg']
    sources[1].parent.mkdir()
    for source in sources:
        Image.open(examples.describe(0)).save(source, quality=95)
    before = [source.read_bytes() for source in sources]
    words = [*map(str, sources), f'--checkpoint={workdir}', '--ema', f'--draw={tmp_path}', '--least=0.05']
    predict._predict(words)
    assert [source.read_bytes() for source in sources] == before
    assert sorted(path.name for path in tmp_path.glob('*.png')) == [
        'a-2.objects.png',
        'a.objects.png',
        'a.png',
    ]
    expected = draw_found(found[0].pixels, found[0].objects, examples.class_names, 0.05)
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / 'a.objects.png')), expected)


def test_what_does_not_fit_is_said_in_one_line(run, tmp_path):
    workdir, _, examples = run
    image = examples.describe(0)

    def refused(message, *words):
        with pytest.raises(InputError, match=message):
            predict._predict([image, *words])

    refused(
        '--size=100 must be a multiple of 64 px, such as 128, for a detector',
        f'--checkpoint={workdir}',
        '--size=100',
    )
    for score in ('1.5', '-1', 'much', 'nan'):
        refused('must be a probability, from 0 to 1', f'--checkpoint={workdir}', f'--least={score}')
    (tmp_path / 'file').write_text('')
    refused(r'--draw=.*/file cannot be written to', f'--checkpoint={workdir}', f'--draw={tmp_path}/file')
    classifier = small_runs.write(tmp_path / 'classifier', [], has_checkpoint=True)
    refused('--draw is for detectors, and .* is of a classifier', f'--checkpoint={classifier}', '--draw=x')
    refused('--least is for detectors', f'--checkpoint={classifier}', '--least=0.5')
    empty, _ = detection_runs.write(tmp_path / 'empty', examples.file.path.parents[1], has_checkpoint=False)
    refused('holds no checkpoint', f'--checkpoint={empty}')
