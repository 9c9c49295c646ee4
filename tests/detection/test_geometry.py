"""Boxes, anchors, suppression and RoIAlign against NumPy, box by box and sample by sample."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from detection_oracles import iou, random_boxes

from nfnets.detection import anchors as anchors_lib
from nfnets.detection import boxes as boxes_lib
from nfnets.detection import roi_align as roi_align_lib
from nfnets.detection.suppression import suppress

roi_align = jax.jit(roi_align_lib.roi_align, static_argnames='size')  # As the network takes it.


def test_overlaps_are_those_of_the_formula():
    rng = np.random.default_rng(0)
    a, b = random_boxes(rng, 20), random_boxes(rng, 15)
    expected = np.array([[iou(x, y) for y in b] for x in a.astype(np.float64)])
    np.testing.assert_allclose(boxes_lib.iou(a, b), expected, rtol=1e-5, atol=1e-6)
    sizes = (a[:, 2] - a[:, 0]) * (a[:, 3] - a[:, 1])
    shared = boxes_lib.intersection(a, b)
    np.testing.assert_allclose(boxes_lib.covered(a, b), shared / sizes[:, None], rtol=1e-6)


def test_an_empty_box_overlaps_nothing_and_gives_no_nan():
    boxes = np.array([[1, 1, 1, 5], [0, 0, 10, 10], [5, 5, 4, 4]], np.float32)
    overlap = np.asarray(boxes_lib.iou(boxes, boxes))
    np.testing.assert_array_equal(overlap, [[0, 0, 0], [0, 1, 0], [0, 0, 0]])
    assert np.isfinite(boxes_lib.covered(boxes, boxes)).all()


def test_shifts_are_those_of_the_formula_and_come_back():
    rng = np.random.default_rng(1)
    boxes, anchors = random_boxes(rng, 30), random_boxes(rng, 30)
    shifts = boxes_lib.encode(boxes, anchors)
    for shift, (x0, y0, x1, y1), (u0, v0, u1, v1) in zip(shifts, boxes, anchors, strict=True):
        width, height = u1 - u0, v1 - v0
        x = ((x0 + x1) / 2 - (u0 + u1) / 2) / width
        y = ((y0 + y1) / 2 - (v0 + v1) / 2) / height
        expected = x, y, np.log((x1 - x0) / width), np.log((y1 - y0) / height)
        np.testing.assert_allclose(shift, expected, rtol=2e-4, atol=1e-5)
    np.testing.assert_allclose(boxes_lib.decode(shifts, anchors), boxes, rtol=1e-4, atol=1e-3)


def test_a_wild_shift_stays_finite_and_boxes_end_at_the_image():
    anchor = np.array([[10, 10, 26, 42]], np.float32)
    wild = boxes_lib.decode(np.array([[0, 0, 1e4, 1e4]], np.float32), anchor)
    np.testing.assert_allclose(wild[0, 2] - wild[0, 0], 16 * 62.5, rtol=1e-5)
    clipped = boxes_lib.clip(wild, np.array([48.0, 64.0], np.float32))
    np.testing.assert_array_equal(clipped, [[0, 0, 64, 48]])


def test_anchors_are_centered_on_their_places_and_have_the_papers_areas():
    made = anchors_lib.make_anchors(128, 192)
    for level, boxes in zip(anchors_lib.LEVELS, made, strict=True):
        stride = 2**level
        assert boxes.shape == (128 // stride * (192 // stride) * 3, 4)
        width, height = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
        np.testing.assert_allclose(width * height, (8 * stride) ** 2, rtol=1e-5)
        np.testing.assert_allclose(
            np.reshape(height / width, (-1, 3)), [[0.5, 1, 2]] * (len(boxes) // 3), rtol=1e-5
        )
        # The second place of the second row.
        place = boxes.reshape(128 // stride, 192 // stride, 3, 4)[1, 1]
        np.testing.assert_allclose((place[:, :2] + place[:, 2:]) / 2, [[1.5 * stride] * 2] * 3, rtol=1e-5)


def _greedy(boxes, is_there, threshold):
    kept = []
    for i, box in enumerate(boxes.astype(np.float64)):
        if is_there[i] and all(iou(box, boxes[j].astype(np.float64)) <= threshold for j in kept):
            kept.append(i)
    return np.isin(np.arange(len(boxes)), kept)


@pytest.mark.parametrize('threshold', [0.1, 0.5, 0.7])
def test_suppression_is_the_greedy_one(threshold):
    rng = np.random.default_rng(2)
    boxes = np.stack([random_boxes(rng, 120, side=60.0) for _ in range(4)])
    is_there = rng.uniform(size=boxes.shape[:2]) < 0.9
    kept = jax.jit(jax.vmap(lambda b, t: suppress(b, t, threshold)))(boxes, is_there)
    for i in range(4):
        np.testing.assert_array_equal(kept[i], _greedy(boxes[i], is_there[i], threshold))
    assert 0 < np.sum(kept) < np.sum(is_there)


def test_a_chain_of_overlaps_keeps_every_second_box():
    # The guess that all are kept is wrong for all but the first, and is mended from the front.
    boxes = np.array([[10.0 * i, 0, 10.0 * i + 16, 10] for i in range(40)], np.float32)
    kept = jax.jit(suppress)(boxes, np.ones(40, bool), 0.2)
    np.testing.assert_array_equal(kept, np.arange(40) % 2 == 0)


def _bilinear(grid, y, x):
    height, width, _ = grid.shape
    y, x = np.clip(y, 0, height - 1), np.clip(x, 0, width - 1)
    top, left = min(int(y), height - 2), min(int(x), width - 2)
    dy, dx = y - top, x - left
    rows = grid[top] * (1 - dy) + grid[top + 1] * dy
    return rows[left] * (1 - dx) + rows[left + 1] * dx


def _pool(grid, box, stride, size):
    x0, y0, x1, y1 = box.astype(np.float64)
    pooled = np.zeros((size, size, grid.shape[2]))
    for p in range(size):
        for q in range(size):
            for i in range(2):
                for j in range(2):
                    y = y0 + (p + (i + 0.5) / 2) * (y1 - y0) / size
                    x = x0 + (q + (j + 0.5) / 2) * (x1 - x0) / size
                    pooled[p, q] += _bilinear(grid, y / stride - 0.5, x / stride - 0.5) / 4
    return pooled


def test_regions_are_pooled_by_bilinear_samples_of_their_level():
    rng = np.random.default_rng(3)
    grids = {level: rng.standard_normal((256 // 2**level, 384 // 2**level, 3)) for level in (2, 3, 4, 5)}
    # Of all levels, one over an edge of the outermost places, one that is empty.
    boxes = np.array(
        [
            [3, 5, 40, 30],
            [100, 20, 230, 150],
            [0, 0, 384, 256],
            [379, 250, 384, 256],
            [7.3, 9, 250, 70],
            [9, 9, 9, 9],
        ],
        np.float32,
    )
    levels = np.asarray(roi_align_lib.box_levels(boxes, (2, 3, 4, 5)))
    sides = np.sqrt((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]))
    expected_levels = [np.clip(np.floor(4 + np.log2(max(side, 1e-3) / 224)), 2, 5) for side in sides]
    np.testing.assert_array_equal(levels, expected_levels)
    assert len(set(levels.tolist())) >= 3
    with jax.default_matmul_precision('highest'):
        pooled = roi_align({k: jnp.asarray(v, jnp.float32) for k, v in grids.items()}, boxes, 7)
    for box, level, found in zip(boxes, levels, pooled, strict=True):
        np.testing.assert_allclose(found, _pool(grids[level], box, 2**level, 7), rtol=1e-4, atol=1e-5)


def test_a_pooled_linear_grid_is_linear_whatever_the_level():
    # Places stand for the middles of their px: x / stride - 1/2.
    grids = {
        level: np.mgrid[0 : 256 // 2**level, 0 : 256 // 2**level].transpose(1, 2, 0) for level in (2, 3, 4)
    }
    grids = {level: jnp.asarray((grid + 0.5) * 2**level, jnp.float32) for level, grid in grids.items()}
    boxes = np.array([[50, 60, 71, 102], [20, 30, 200, 220]], np.float32)
    for box, found in zip(boxes, roi_align(grids, boxes, 4), strict=True):
        steps = (np.arange(4) + 0.5) / 4
        np.testing.assert_allclose(found[:, 0, 0], box[1] + steps * (box[3] - box[1]), rtol=1e-5)
        np.testing.assert_allclose(found[0, :, 1], box[0] + steps * (box[2] - box[0]), rtol=1e-5)
