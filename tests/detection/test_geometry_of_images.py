"""Images in their square: boxes and masks go where Pillow puts the pixels."""

import numpy as np
import pytest
from PIL import Image

from nfnets.detection.geometry import boxes_in_image, fit, jitter, mask_across, place_boxes


def _put(placing, image):
    """The square by Pillow, float [S, S]."""
    scaled = np.asarray(
        Image.fromarray(image).resize((placing.width, placing.height), Image.Resampling.BILINEAR)
    )
    tall, wide = placing.shown
    seen = scaled[placing.top : placing.top + tall, placing.left : placing.left + wide]
    square = np.zeros((placing.size, placing.size))
    square[:tall, :wide] = seen[:, ::-1] if placing.is_mirrored else seen
    return square


@pytest.mark.parametrize('seed', range(12))
def test_boxes_go_where_the_pixels_go(seed):
    rng = np.random.default_rng(seed)
    height, width = (int(side) for side in rng.integers(60, 200, 2))
    x, y = (int(place) for place in (rng.integers(0, width - 30), rng.integers(0, height - 30)))
    wide, tall = (int(side) for side in rng.integers(20, 31, 2))
    image = np.zeros((height, width), np.float32)
    image[y : y + tall, x : x + wide] = 1.0
    placing = jitter(rng, height, width, 96, (0.6, 1.6), flip=True) if seed else fit(height, width, 96)
    (box,) = place_boxes(placing, np.array([[x, y, x + wide, y + tall]], np.float32), height, width)
    square = _put(placing, image)
    rows, columns = (np.flatnonzero(square.max(axis=axis) > 0.5) for axis in (1, 0))
    if not rows.size:
        assert min(box[2] - box[0], box[3] - box[1]) < 1
        return
    expected = [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]
    np.testing.assert_allclose(box, expected, atol=1.01)


def test_jitter_covers_its_scales_cuts_at_random_and_mirrors_half():
    rng = np.random.default_rng(0)
    placings = [jitter(rng, 100, 200, 64, (0.5, 2.0), flip=True) for _ in range(400)]
    scales = np.array([max(p.width, p.height) / 64 for p in placings])
    assert scales.min() < 0.53
    assert scales.max() > 1.97
    assert 0.4 < np.mean([p.is_mirrored for p in placings]) < 0.6
    assert len({p.left for p in placings if p.width > 100}) > 20
    for p in placings:
        assert abs(p.width - 2 * p.height) <= 2
        assert max(0, p.width - 64) >= p.left
        assert p.shown[0] <= 64
    assert not any(jitter(rng, 50, 50, 64, (1.0, 1.0), flip=False).is_mirrored for _ in range(20))


def test_boxes_come_back_to_their_image():
    boxes = np.array([[10, 20, 60, 80], [0, 0, 200, 100]], np.float32)
    placing = fit(100, 200, 64)
    assert placing.shown == (32, 64)
    placed = place_boxes(placing, boxes, 100, 200)
    np.testing.assert_allclose(placed[0], [3.2, 6.4, 19.2, 25.6], rtol=1e-6)
    np.testing.assert_allclose(boxes_in_image(placing, placed, 100, 200), boxes, atol=1e-4)


@pytest.mark.parametrize('is_mirrored', [False, True])
def test_a_mask_across_its_box_is_the_part_that_the_square_shows(is_mirrored):
    height, width = 80, 120
    y, x = np.mgrid[0:height, 0:width]
    mask = ((x - 70) / 30) ** 2 + ((y - 40) / 20) ** 2 + 0.3 * ((x - 70) / 30) < 1  # Not symmetric.
    placing = fit(height, width, 240)._replace(is_mirrored=is_mirrored, left=60, top=20)
    box = np.array([[40, 20, 100, 60]], np.float32)
    (placed,) = place_boxes(placing, box, height, width)
    found = mask_across(mask, placed, placing, height, width, 28)
    square = _put(placing, mask.astype(np.float32))
    steps = (np.arange(28) + 0.5) / 28
    columns = (placed[0] + steps * (placed[2] - placed[0])).astype(int)
    rows = (placed[1] + steps * (placed[3] - placed[1])).astype(int)
    values = square[np.ix_(rows, columns)]
    is_clear = np.abs(values - 0.5) > 0.49
    assert is_clear.mean() > 0.8
    np.testing.assert_array_equal(found[is_clear], (values > 0.5)[is_clear])
