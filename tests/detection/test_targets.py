"""What anchors and regions are trained to say, and their losses, against NumPy, one by one."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from detection_oracles import iou, random_boxes

from nfnets.detection import losses, targets
from nfnets.detection.masks import mask_targets
from nfnets.detection.targets import AnchorTargets, Objects, RoiTargets, sample

NUM_CLASSES = 5
# As the network takes them: each is one program, not one for each operation.
match_anchors = jax.jit(targets.match_anchors)
sample_rois = jax.jit(targets.sample_rois, static_argnames=('count', 'num_classes'))
anchor_losses, roi_losses = jax.jit(losses.anchor_losses), jax.jit(losses.roi_losses)


def _objects(rng, count=6, absent=2, crowds=1):
    boxes = random_boxes(rng, count)
    present = np.arange(count) < count - absent - crowds
    crowd = (np.arange(count) >= count - absent - crowds) & (np.arange(count) < count - absent)
    return Objects(boxes, rng.integers(0, NUM_CLASSES, count).astype(np.int32), present, crowd)


def _roles(anchors, objects):
    """1, 0 or -1 for each anchor by the rules of Faster R-CNN, and the object that overlaps most."""
    there = np.flatnonzero(objects.present)
    table = np.array([[iou(a, objects.boxes[g]) for g in there] for a in anchors])
    roles = np.full(len(anchors), -1)
    roles[table.max(1) < 0.3] = 0
    for i, anchor in enumerate(anchors):
        for g in np.flatnonzero(objects.crowd):
            x0, y0, x1, y1 = objects.boxes[g].astype(np.float64)
            width = max(0.0, min(x1, anchor[2]) - max(x0, anchor[0]))
            height = max(0.0, min(y1, anchor[3]) - max(y0, anchor[1]))
            if width * height >= 0.5 * (anchor[2] - anchor[0]) * (anchor[3] - anchor[1]):
                roles[i] = -1
    roles[table.max(1) >= 0.7] = 1
    for g in range(len(there)):
        if table[:, g].max() > 0:
            roles[table[:, g] == table[:, g].max()] = 1
    return roles, there[table.argmax(1)]


@pytest.mark.parametrize('seed', range(3))
def test_anchors_have_the_roles_of_the_paper(seed):
    rng = np.random.default_rng(seed)
    objects = _objects(rng)
    # Some that are near an object.
    sizes = np.tile(objects.boxes[:, 2:] - objects.boxes[:, :2], 2)
    near = objects.boxes + sizes * rng.normal(0, 0.08, (4, *objects.boxes.shape))
    anchors = np.concatenate([random_boxes(rng, 60), near.reshape(-1, 4)]).astype(np.float32)
    roles, match = _roles(anchors.astype(np.float64), objects)
    found = match_anchors(jax.random.key(seed), anchors, objects)
    # Fewer than are sampled: all are.
    np.testing.assert_array_equal(found.positive, roles == 1)
    np.testing.assert_array_equal(found.negative, roles == 0)
    np.testing.assert_array_equal(np.asarray(found.match)[roles == 1], match[roles == 1])
    assert len(np.unique(roles)) == 3


def test_an_image_without_objects_has_negative_anchors_alone():
    rng = np.random.default_rng(0)
    objects = _objects(rng, absent=6, crowds=0)
    found = match_anchors(jax.random.key(0), random_boxes(rng, 400), objects)
    assert not np.any(found.positive)
    assert np.sum(found.negative) == 256


def test_samples_are_as_many_as_asked_for_and_each_is_alike():
    is_eligible = np.arange(50) % 2 == 0
    keys = jax.random.split(jax.random.key(0), 2000)
    for limit in (0, 1, 10, 40):
        chosen = np.asarray(jax.vmap(lambda key: sample(key, is_eligible, 40, limit))(keys))  # noqa: B023
        np.testing.assert_array_equal(chosen.sum(1), min(limit, 25))
        assert not chosen[:, ~is_eligible].any()
        share = min(limit, 25) / 25
        deviation = np.sqrt(share * (1 - share) / len(keys))
        assert np.all(np.abs(chosen[:, is_eligible].mean(0) - share) <= 5 * deviation)


def test_regions_are_a_quarter_objects_the_rest_background_and_the_places_left_count_nothing():
    rng = np.random.default_rng(4)
    objects = _objects(rng)
    near = (objects.boxes[:3, None] + rng.normal(0, 1, (3, 30, 4))).reshape(-1, 4)
    proposals = np.concatenate([near, random_boxes(rng, 40)]).astype(np.float32)
    is_there = rng.uniform(size=len(proposals)) < 0.9
    found = sample_rois(jax.random.key(0), proposals, is_there, objects, count=64, num_classes=NUM_CLASSES)
    of_object = np.asarray(found.labels) < NUM_CLASSES
    assert of_object.sum() == 16
    assert np.asarray(found.weight).sum() > 16
    candidates = {tuple(box) for box in np.concatenate([proposals[is_there], objects.boxes[objects.present]])}
    for box, label, match, weight in zip(*map(np.asarray, found), strict=True):
        if not weight:
            assert label == NUM_CLASSES
            continue
        assert tuple(box) in candidates
        wide = objects.boxes.astype(np.float64)
        overlaps = [iou(box, wide[g]) if objects.present[g] else 0.0 for g in range(len(wide))]
        if label < NUM_CLASSES:
            assert match == np.argmax(overlaps)
            assert max(overlaps) >= 0.5 - 1e-6
            assert label == objects.labels[match]
        else:
            assert max(overlaps) < 0.5 + 1e-6


def _smooth_l1(x):
    return sum(0.5 * d * d if abs(d) < 1 else abs(d) - 0.5 for d in x)


def _shift(box, anchor):
    (x0, y0, x1, y1), (u0, v0, u1, v1) = box.astype(np.float64), anchor.astype(np.float64)
    width, height = u1 - u0, v1 - v0
    center = ((x0 + x1) / 2 - (u0 + u1) / 2) / width, ((y0 + y1) / 2 - (v0 + v1) / 2) / height
    return np.array([*center, np.log((x1 - x0) / width), np.log((y1 - y0) / height)])


def test_the_losses_of_anchors_are_those_of_the_formula():
    rng = np.random.default_rng(5)
    objects, anchors = _objects(rng), random_boxes(rng, 30)
    role, match = rng.integers(-1, 2, 30), rng.integers(0, 3, 30)
    logits, shifts = rng.standard_normal(30), rng.standard_normal((30, 4))
    wanted = AnchorTargets(role == 1, role == 0, match)
    found = anchor_losses(*map(np.float32, (logits, shifts, anchors)), wanted, objects)
    entropy = distance = 0.0
    for i in range(30):
        if role[i] >= 0:
            entropy += np.log1p(np.exp(-logits[i] if role[i] else logits[i]))
        if role[i] == 1:
            distance += _smooth_l1(shifts[i] - _shift(objects.boxes[match[i]], anchors[i]))
    count = np.sum(role >= 0)
    np.testing.assert_allclose(found['objectness'], entropy / count, rtol=1e-5)
    np.testing.assert_allclose(found['anchor_shifts'], distance / count, rtol=1e-4)


def test_the_losses_of_regions_are_those_of_the_formula():
    rng = np.random.default_rng(6)
    objects, boxes = _objects(rng), random_boxes(rng, 24)
    labels, match = rng.integers(0, NUM_CLASSES + 1, 24), rng.integers(0, 3, 24)
    weight = (rng.uniform(size=24) < 0.8).astype(np.float32)
    labels[weight == 0] = NUM_CLASSES
    logits = rng.standard_normal((24, NUM_CLASSES + 1))
    shifts = rng.standard_normal((24, NUM_CLASSES, 4))
    wanted = RoiTargets(boxes, labels, match, weight)
    found = roi_losses(np.float32(logits), np.float32(shifts), wanted, objects)
    entropy = distance = 0.0
    for i in np.flatnonzero(weight):
        entropy += np.log(np.sum(np.exp(logits[i]))) - logits[i, labels[i]]
        if labels[i] < NUM_CLASSES:
            wanted = _shift(objects.boxes[match[i]], boxes[i]) / (0.1, 0.1, 0.2, 0.2)
            distance += _smooth_l1(shifts[i, labels[i]] - wanted)
    np.testing.assert_allclose(found['classes'], entropy / weight.sum(), rtol=1e-5)
    np.testing.assert_allclose(found['roi_shifts'], distance / weight.sum(), rtol=1e-4)


def test_places_without_a_region_give_no_nan_in_values_or_gradients():
    rng = np.random.default_rng(7)
    objects = _objects(rng, absent=6, crowds=0)._replace(boxes=np.zeros((6, 4), np.float32))
    empty = np.zeros((8, 4), np.float32)
    nothing, zeros = np.zeros(8, bool), np.zeros(8, np.int32)

    def total(logits, shifts):
        anchor = losses.anchor_losses(
            logits[:, 0], shifts[:, 0], random_boxes(rng, 8), AnchorTargets(nothing, nothing, zeros), objects
        )
        none = RoiTargets(empty, zeros + NUM_CLASSES, zeros, np.zeros(8, np.float32))
        regions = losses.roi_losses(logits, shifts, none, objects)
        return sum(anchor.values()) + sum(regions.values())

    arguments = jnp.ones((8, NUM_CLASSES + 1)), jnp.ones((8, NUM_CLASSES, 4))
    value, grads = jax.jit(jax.value_and_grad(total, (0, 1)))(*arguments)
    assert value == 0
    assert all(np.all(np.asarray(g) == 0) for g in grads)


def test_the_loss_of_masks_is_that_of_their_class_where_there_is_an_object():
    rng = np.random.default_rng(8)
    logits = rng.standard_normal((6, 4, 4, NUM_CLASSES))
    wanted = rng.integers(0, 2, (6, 4, 4)).astype(np.float32)
    labels, on_object = rng.integers(0, NUM_CLASSES, 6), np.array([1, 0, 1, 1, 0, 1], bool)
    found = losses.mask_loss(jnp.float32(logits), wanted, labels, on_object)
    each = [
        np.mean(np.log1p(np.exp(np.where(wanted[i] > 0, -1, 1) * logits[i, :, :, labels[i]])))
        for i in np.flatnonzero(on_object)
    ]
    np.testing.assert_allclose(found, np.mean(each), rtol=1e-5)


def test_a_region_sees_its_part_of_a_mask():
    # A disk in a box of 40 x 20 px, seen by the box itself, its upper left quarter, and one that juts out.
    places = (np.arange(64) + 0.5) / 32 - 1
    disk = (places[:, None] ** 2 + places[None, :] ** 2 <= 1).astype(np.float32)
    boxes = np.array([[0, 0, 1, 1], [10, 30, 50, 50]], np.float32)
    regions = np.array([[10, 30, 50, 50], [10, 30, 30, 40], [30, 30, 70, 50]], np.float32)
    found = mask_targets(np.stack([1 - disk, disk]), boxes, regions, np.array([1, 1, 1]), 28)
    for region, mask in zip(regions, np.asarray(found), strict=True):
        x = region[0] + (np.arange(28) + 0.5) / 28 * (region[2] - region[0])
        y = region[1] + (np.arange(28) + 0.5) / 28 * (region[3] - region[1])
        distance = np.hypot((x[None, :] - 30) / 20, (y[:, None] - 40) / 10)
        is_clear = np.abs(distance - 1) > 0.06  # Not on the disk's edge, which a grid of 64 places blurs.
        np.testing.assert_array_equal(mask[is_clear], (distance < 1)[is_clear])
    assert not found[2][:, 15:].any()
