"""Detections back in their images, and average precision by hand and against pycocotools' own way to it."""

import numpy as np
import pytest
from coco_sets import run_lengths, write_set
from pycocotools import mask as mask_lib
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from nfnets.detection.average_precision import average_precision
from nfnets.detection.detections import Detections
from nfnets.detection.examples import CocoExamples
from nfnets.detection.geometry import fit, mask_across, place_boxes
from nfnets.detection.image_detections import ImageDetections, paste, put_back
from nfnets.errors import InputError

HALF, WHOLE = pytest.approx(0.5), pytest.approx(1.0)
NAMES = ('ap', 'ap50', 'ap75', 'ap_s', 'ap_m', 'ap_l')


def _rectangle(height, width, left, top, wide, tall):
    mask = np.zeros((height, width), bool)
    mask[top : top + tall, left : left + wide] = True
    return mask


def _packed(mask):
    return mask_lib.encode(np.asfortranarray(mask, np.uint8))


def _found(*objects):
    """Detections of [(label, score, mask [H, W])]; boxes are those of the masks."""
    corners = [mask_lib.toBbox(_packed(mask)) for _, _, mask in objects]
    boxes = np.array([[x, y, x + w, y + h] for x, y, w, h in corners], np.float32).reshape(-1, 4)
    labels, scores = (np.array([each[i] for each in objects]) for i in (0, 1))
    return ImageDetections(boxes, labels, scores, tuple(_packed(mask) for _, _, mask in objects))


@pytest.fixture
def set_of(tmp_path):
    """A set whose images have [(label, mask, is_crowd)] each."""

    def make(*images):
        sizes = [objects[0][1].shape if objects else (20, 30) for objects in images]
        pixels = [np.zeros((*size, 3), np.uint8) for size in sizes]
        return CocoExamples(write_set(tmp_path, 'val', list(zip(pixels, images, strict=True))), 'val')

    return make


def _bilinear(mask, y, x):
    """By hand, a mask [S, S] at a point of its own places."""
    side = len(mask)
    y, x = np.clip(y, 0, side - 1), np.clip(x, 0, side - 1)
    top, left = min(int(y), side - 2), min(int(x), side - 2)
    rows = mask[top] * (1 - (y - top)) + mask[top + 1] * (y - top)
    return rows[left] * (1 - (x - left)) + rows[left + 1] * (x - left)


@pytest.mark.parametrize('box', [[3.2, 5.7, 40.1, 21.0], [0, 0, 50, 30], [10.1, 10.2, 13.9, 29.9]])
def test_a_mask_is_pasted_by_bilinear_interpolation_of_its_places(box):
    mask = np.random.default_rng(0).uniform(size=(7, 7))
    expected = np.zeros((30, 50))
    for y in range(30):
        for x in range(50):
            if box[0] <= x + 0.5 < box[2] and box[1] <= y + 0.5 < box[3]:
                row = (y + 0.5 - box[1]) / (box[3] - box[1]) * 7 - 0.5
                column = (x + 0.5 - box[0]) / (box[2] - box[0]) * 7 - 0.5
                expected[y, x] = _bilinear(mask, row, column) >= 0.5
    pasted = paste(mask, np.array(box, np.float32), 30, 50)
    np.testing.assert_array_equal(pasted, expected)
    assert 0.2 < pasted.sum() / ((box[2] - box[0]) * (box[3] - box[1])) < 0.8


def test_detections_lie_in_their_image_as_it_is_and_end_at_it():
    boxes = np.array([[8, 4, 24, 12], [0, 0, 9, 9], [-4, 8, 40, 70]], np.float32)  # Of a square of 32 px.
    masks = np.ones((3, 5, 5), np.float32)
    masks[2, :, 3:] = 0
    found = Detections(boxes, np.array([2, 0, 1]), np.array([0.9, 0.0, 0.3]), np.array([True, False, True]))
    back = put_back(found, masks, height=100, width=200, size=32)
    np.testing.assert_allclose(back.boxes, [[50, 25, 150, 75], [0, 50, 200, 100]], atol=1e-4)
    assert back.labels.tolist() == [2, 1]
    assert back.scores.tolist() == [0.9, 0.3]
    np.testing.assert_array_equal(back.mask(0), _rectangle(100, 200, 50, 25, 100, 50))
    # Half way between the middles of the third and the fourth of five places.
    np.testing.assert_array_equal(back.mask(1), _rectangle(100, 200, 0, 50, 120, 50))


def test_nothing_found_is_put_back_as_nothing(set_of):
    nothing = Detections(np.zeros((3, 4)), np.zeros(3, int), np.zeros(3), np.zeros(3, bool))
    back = put_back(nothing, np.zeros((3, 5, 5)), 20, 30, 32)
    assert back.boxes.shape == (0, 4)
    examples = set_of([(0, _rectangle(20, 30, 3, 3, 9, 9), False)])
    assert average_precision(examples, {0: back}).metrics['box_ap'] == 0.0


def test_the_true_objects_as_the_network_would_see_them_are_all_right(set_of, capsys):
    rng = np.random.default_rng(0)
    images = []
    for height, width in ((90, 140), (250, 200), (64, 64)):
        places = [
            (k, *(int(v) for v in rng.integers((0, 0, 12, 12), (40, 30, 24, 30)))) for k in (0, 1, 2, 2)
        ]
        images.append([(k, _rectangle(height, width, *place), False) for k, *place in places])
    ring = _rectangle(64, 64, 5, 5, 40, 40) & ~_rectangle(64, 64, 15, 15, 20, 20)
    examples = set_of(*images, [(0, ring, False)], [])
    found = {}
    for index in range(len(examples)):
        image = examples.annotated(index)
        placing = fit(*image.size, 96)
        boxes = place_boxes(placing, image.boxes, *image.size)
        masks = [
            mask_across(image.mask(i), box, placing, *image.size, side=80) for i, box in enumerate(boxes)
        ]
        count = len(boxes)
        detections = Detections(boxes, image.labels, rng.uniform(0.1, 1, count), np.ones(count, bool))
        found[index] = put_back(detections, np.reshape(masks, (count, 80, 80)), *image.size, 96)
    scores = average_precision(examples, found)
    assert set(scores.metrics) == {f'{kind}_{name}' for kind in ('box', 'mask') for name in NAMES[:5]}
    assert list(scores.metrics.values()) == pytest.approx([1.0] * 10)
    assert [(each.name, each.objects) for each in scores.classes] == [
        ('left', 4),
        ('middle', 3),
        ('right', 6),
    ]
    assert capsys.readouterr().out == ''


def test_average_precision_is_that_computed_by_hand(set_of):
    # Of class 0, two objects of 100 px by 20. Of class 1, one that is not found. Class 2 has none.
    first, second = _rectangle(80, 120, 0, 0, 100, 20), _rectangle(80, 120, 0, 40, 100, 20)
    examples = set_of([(0, first, False), (0, second, False), (1, first, False)])
    found = _found(
        (0, 0.9, _rectangle(80, 120, 0, 0, 82, 20)),  # Overlaps the first by 0.82.
        (0, 0.8, _rectangle(80, 120, 60, 60, 60, 20)),  # Nothing.
        (0, 0.7, _rectangle(80, 120, 0, 40, 52, 20)),  # The second by 0.52.
    )
    scores = average_precision(examples, {0: found})
    # Of 101 recalls 0, 0.01 .. 1, 51 are up to a half.
    both, one = (51 + 50 * 2 / 3) / 101, 51 / 101
    of_first = (both + 6 * one) / 10  # Overlaps of 0.5, of 0.55 to 0.8, and above.
    left, middle = scores.classes
    for kind in ('box', 'mask'):
        np.testing.assert_allclose(getattr(left, f'{kind}_ap'), of_first, rtol=1e-6)
        np.testing.assert_allclose(getattr(left, f'{kind}_ap50'), both, rtol=1e-6)
        np.testing.assert_allclose(scores.metrics[f'{kind}_ap'], of_first / 2, rtol=1e-6)
        np.testing.assert_allclose(scores.metrics[f'{kind}_ap50'], both / 2, rtol=1e-6)
        np.testing.assert_allclose(scores.metrics[f'{kind}_ap75'], one / 2, rtol=1e-6)
    assert (left.name, left.objects) == ('left', 2)
    assert middle == ('middle', 1, 0.0, 0.0, 0.0, 0.0)


def test_what_is_found_in_a_crowd_is_neither_right_nor_wrong(set_of):
    one, crowd = _rectangle(60, 60, 0, 0, 20, 20), _rectangle(60, 60, 0, 30, 60, 30)
    examples = set_of([(0, one, False), (0, crowd, True)])
    in_crowd = (0, 0.9, _rectangle(60, 60, 10, 35, 15, 15))
    scores = average_precision(examples, {0: _found(in_crowd, (0, 0.5, one))})
    assert list(scores.metrics.values()) == pytest.approx([1.0] * 8)  # All are small.
    assert scores.classes[0].objects == 1
    beside = (0, 0.9, _rectangle(60, 60, 40, 0, 15, 15))
    assert average_precision(examples, {0: _found(beside, (0, 0.5, one))}).metrics['box_ap'] == HALF


def test_images_count_whether_or_not_they_hold_what_was_found_in_them(set_of):
    one = _rectangle(20, 30, 3, 3, 9, 9)
    examples = set_of([(0, one, False)], [])
    right, wrong = _found((0, 0.5, one)), _found((0, 0.9, one))
    assert average_precision(examples, {0: right}).metrics['box_ap'] == WHOLE
    assert average_precision(examples, {0: right, 1: wrong}).metrics['box_ap'] == HALF
    with pytest.raises(InputError, match=r'^none of the 1 images of .* has an object'):
        average_precision(examples, {1: wrong})


def test_random_detections_score_as_in_pycocotools_from_files(set_of, capsys):
    rng = np.random.default_rng(1)

    def random_mask():
        left, top = rng.integers(0, 150, 2)
        return _rectangle(200, 220, left, top, *rng.integers(4, 190, 2))

    images, found = [], {}
    for index in range(8):
        objects = [(int(rng.integers(3)), random_mask(), rng.uniform() < 0.2) for _ in range(6)]
        images.append(objects)
        near = [(k, rng.uniform(), np.roll(mask, rng.integers(-6, 7, 2), (0, 1))) for k, mask, _ in objects]
        found[index] = _found(
            *near, *((int(rng.integers(3)), rng.uniform(), random_mask()) for _ in range(4))
        )
    examples = set_of(*images)
    metrics, classes = average_precision(examples, found)
    for name in ('box_ap', 'box_ap50', 'mask_ap', 'mask_ap50'):
        assert np.mean([getattr(each, name) for each in classes]) == pytest.approx(metrics[name])
    truth = COCO(str(examples.file.path))
    for kind, name in (('bbox', 'box'), ('segm', 'mask')):
        results = [
            {
                'image_id': examples.annotated(index).image_id,
                'category_id': examples.file.category_ids[label],
                'score': float(score),
                'bbox': [x0, y0, x1 - x0, y1 - y0],
                'segmentation': packed,
            }
            for index, each in found.items()
            for (x0, y0, x1, y1), label, score, packed in zip(*each, strict=True)
        ]
        if kind == 'segm':  # As results of masks alone are handed in.
            results = [{k: v for k, v in each.items() if k != 'bbox'} for each in results]
        evaluation = COCOeval(truth, truth.loadRes(results), kind)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
        expected = dict(zip(NAMES, evaluation.stats, strict=False))
        assert 0.05 < expected['ap'] < 0.95
        for key, value in expected.items():
            np.testing.assert_allclose(metrics[f'{name}_{key}'], value, rtol=1e-9)
    capsys.readouterr()


def test_the_sets_of_the_tests_pack_as_pycocotools_does():
    mask = np.random.default_rng(2).uniform(size=(9, 13)) < 0.4
    np.testing.assert_array_equal(mask_lib.decode(mask_lib.frPyObjects(run_lengths(mask), 9, 13)), mask)
