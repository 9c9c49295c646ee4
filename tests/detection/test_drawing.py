"""Objects drawn on images: which pixels change, and to what."""

import numpy as np
import pytest
from coco_sets import write_set
from pycocotools import mask as mask_lib

from nfnets.detection.drawing import color, draw, draw_found, draw_true
from nfnets.detection.examples import CocoExamples
from nfnets.detection.image_detections import ImageDetections


def _disc(height, width, y, x, radius):
    rows, columns = np.mgrid[:height, :width]
    return (rows - y) ** 2 + (columns - x) ** 2 <= radius**2


def _box(mask):
    rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    return [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]


def test_masks_are_tinted_boxes_lined_and_the_rest_left_as_it_is():
    pixels = np.random.default_rng(0).integers(0, 256, (500, 600, 3), np.uint8)
    mask = _disc(500, 600, 250, 300, 80)
    drawn = draw(pixels, np.array([_box(mask)]), np.array([3]), ['cat'], [mask])
    assert drawn.shape == pixels.shape
    inner = _disc(500, 600, 250, 300, 70)
    blend = pixels + 0.45 * (np.array(color(3)) - pixels.astype(float))
    np.testing.assert_allclose(drawn[inner], blend[inner], atol=0.51)
    left, top, right, bottom = _box(mask)
    for line in (drawn[top, left:right], drawn[bottom - 1, left:right], drawn[top:bottom, left]):
        assert np.all(line == color(3))
    changed = np.any(drawn != pixels, axis=2)
    changed[top:bottom, left:right] = False
    rows, columns = np.flatnonzero(changed.any(axis=1)), np.flatnonzero(changed.any(axis=0))
    # The caption, above the box and at its left.
    assert top - 30 < rows[0] < rows[-1] < top + 2
    assert left <= columns[0] < columns[-1] < left + 60


def test_small_images_are_enlarged_without_a_blur():
    pixels = np.random.default_rng(0).integers(0, 256, (64, 100, 3), np.uint8)
    drawn = draw(pixels, np.zeros((0, 4)), np.zeros(0, int), [], [])
    np.testing.assert_array_equal(drawn, np.kron(pixels, np.ones((6, 6, 1), np.uint8)))


@pytest.mark.parametrize('corner', [(0, 0), (0, 380), (280, 0), (280, 380)])
def test_captions_stay_in_the_image(corner):
    pixels = np.zeros((300, 400, 3), np.uint8)
    mask = np.zeros((300, 400), bool)
    mask[corner[0] : corner[0] + 20, corner[1] : corner[1] + 20] = True
    box = np.array([_box(mask)])
    long, none = (draw(pixels, box, np.array([2]), [text], [mask]) for text in ('a long caption', ''))
    letters = np.any(long != none, axis=2)
    assert letters.sum() > 1000
    shown = np.all(long == color(2), axis=2) | letters
    columns = np.flatnonzero(shown.any(axis=0))
    assert columns[-1] - columns[0] > 100


def test_the_likeliest_is_on_top_and_the_unlikely_left_out():
    pixels = np.zeros((520, 520, 3), np.uint8)
    mask = np.zeros((520, 520), bool)
    mask[100:400, 100:400] = True
    packed = mask_lib.encode(np.asfortranarray(mask, np.uint8))
    found = ImageDetections(
        np.array([[100, 100, 400, 400]] * 3, np.float32),
        np.array([4, 1, 2]),
        np.array([0.9, 0.6, 0.2]),
        (packed,) * 3,
    )
    names = ('a', 'b', 'c', 'd', 'e')
    drawn = draw_found(pixels, found, names, least_score=0.5)
    assert tuple(drawn[399, 250]) == color(4)
    expected = 0.45 * np.array(color(4)) + 0.55 * 0.45 * np.array(color(1))
    np.testing.assert_allclose(drawn[300, 300], expected, atol=1)
    one = found._replace(**{name: getattr(found, name)[:1] for name in found._fields})
    assert np.any(drawn != draw_found(pixels, one, names))
    np.testing.assert_array_equal(
        draw_found(pixels, found, names, least_score=0.7), draw_found(pixels, one, names)
    )


def test_true_objects_are_drawn_with_their_names(tmp_path):
    pixels, mask = np.zeros((128, 128, 3), np.uint8), _disc(128, 128, 60, 60, 20)
    examples = CocoExamples(write_set(tmp_path, 'val', [(pixels, [(1, mask, False)])]), 'val')
    image = examples.annotated(0)
    drawn = draw_true(pixels, image, examples.class_names)
    np.testing.assert_array_equal(drawn, draw(pixels, image.boxes, image.labels, ['middle'], [mask]))
    crowd = draw_true(pixels, image._replace(crowd=np.array([True])), examples.class_names)
    assert np.any(crowd != drawn)


def test_classes_have_colors_of_their_own():
    assert len({color(label) for label in range(100)}) == 100
