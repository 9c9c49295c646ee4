"""Mask R-CNN on small backbones: shapes, proposals and detections against NumPy, and that it learns."""

import dataclasses
import functools

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from detection_oracles import iou, random_boxes

from nfnets.detection.boxes import encode
from nfnets.detection.detections import find
from nfnets.detection.heads import spread
from nfnets.detection.mask_rcnn import MaskRCNN, Sizes
from nfnets.detection.proposals import Proposals, propose
from nfnets.detection.pyramid import FeaturePyramid
from nfnets.detection.targets import Objects
from nfnets.models.networks import shapes_of
from nfnets.models.nf_resnet import NFResNet
from nfnets.models.nfnet import NFNet
from nfnets.models.resnet import ResNet
from nfnets.models.variants import RESNETS, VARIANTS

NUM_CLASSES = 3
SIDE = 64
SIZES = Sizes(
    channels=16, hidden=32, anchor_scale=4.0, most_of_level=64, proposals=48, regions=16, detections=8
)


def _backbone(name):
    small = {'widths': (16, 16, 16, 16), 'depths': (1, 1, 1, 1)}
    if name == 'NFNet':
        return NFNet(10, dataclasses.replace(VARIANTS['F0'], group_width=8, **small))
    kind = {'NFResNet': NFResNet, 'ResNet': ResNet}[name]
    return kind(10, dataclasses.replace(RESNETS['ResNet50'], **small))


def _network(name):
    """(init, losses, detect) of a network, each a pure function."""

    def make():
        network = MaskRCNN(_backbone(name).grids, NUM_CLASSES, SIZES)
        return network.losses, (network.losses, network.detect)

    return hk.multi_transform_with_state(make)


def _scene(seed, count=2):
    """Images with a bright square or a dark one, where they are, and their masks."""
    rng = np.random.default_rng(seed)
    images = rng.normal(0, 0.05, (count, SIDE, SIDE, 3)).astype(np.float32)
    boxes, labels = np.zeros((count, 3, 4), np.float32), np.zeros((count, 3), np.int32)
    for i in range(count):
        for g in range(2):
            (x, y), side = rng.integers(0, 24, 2), rng.integers(12, 24)
            y += 32 * g
            label = rng.integers(0, 2)
            boxes[i, g], labels[i, g] = (x, y, x + side, min(y + side, SIDE)), label
            images[i, y : y + side, x : x + side] += 2.0 if label else -2.0
    present = np.arange(3)[None, :] < np.full((count, 1), 2)
    objects = Objects(boxes, labels, present, np.zeros_like(present))
    return images, np.full((count, 2), SIDE, np.float32), objects, np.ones((count, 3, 16, 16), np.float32)


@pytest.mark.parametrize('name', ['NFNet', 'NFResNet', 'ResNet'])
def test_every_backbone_gives_losses_and_detections_and_gets_gradients(name):
    init, (losses, detect) = _network(name)
    scene = _scene(0)
    key = jax.random.key(0)
    shapes = shapes_of(init, key, key, *scene)
    params, state = jax.tree.map(lambda x: jnp.full(x.shape, 0.02, x.dtype), shapes)
    total = lambda params: sum(losses(params, state, key, key, *scene)[0].values())  # noqa: E731
    grads = jax.eval_shape(jax.grad(total), params)
    assert jax.tree.structure(grads) == jax.tree.structure(params)
    (found, masks), _ = jax.eval_shape(detect, params, state, key, *scene[:2])
    assert found.boxes.shape == (2, 8, 4)
    assert masks.shape == (2, 8, 28, 28)


def test_it_learns_to_find_two_kinds_of_squares():
    init, (losses, detect) = _network('NFResNet')
    key = jax.random.key(1)
    params, state = jax.jit(init)(key, key, *_scene(0, count=4))
    optimizer = optax.adam(3e-3)

    @jax.jit
    def step(params, opt_state, key, scene):
        total = lambda params: sum(losses(params, state, key, key, *scene)[0].values())  # noqa: E731
        grads = jax.grad(total)(params)
        updates, opt_state = optimizer.update(grads, opt_state, params)
        return optax.apply_updates(params, updates), opt_state, grads

    opt_state = optimizer.init(params)
    for i in range(80):
        params, opt_state, grads = step(params, opt_state, jax.random.key(i), _scene(i, count=4))
    # None is of what the backbone would have behind its last stage.
    assert all(any(np.any(np.asarray(value)) for value in values.values()) for values in grads.values())
    images, sizes, objects, _ = _scene(10_000, count=8)
    (found, masks), _ = jax.jit(detect)(params, state, key, images, sizes)
    hits = [
        (n, best)
        for n in range(8)
        for g in range(2)
        if (best := _best(found, n, objects.boxes[n, g], objects.labels[n, g])) is not None
    ]
    assert len(hits) >= 14  # Of 16.
    # An object fills its box.
    assert np.mean([np.mean(np.asarray(masks[place]) > 0.5) for place in hits]) > 0.8


def _best(found, image, box, label):
    """The first of an image's detections with a label that overlaps a box by more than a half; or None."""
    for place in np.flatnonzero(
        np.asarray(found.is_there[image]) & (np.asarray(found.labels[image]) == label)
    ):
        if iou(np.float64(found.boxes[image, place]), np.float64(box)) > 0.5:
            return int(place)
    return None


def test_proposals_are_the_likeliest_that_do_not_overlap():
    rng = np.random.default_rng(2)
    anchors = {2: random_boxes(rng, 40), 3: random_boxes(rng, 20)}
    wanted = {level: random_boxes(rng, len(boxes)) for level, boxes in anchors.items()}
    shifts = {level: encode(wanted[level], anchors[level]) for level in anchors}
    scores = {level: rng.standard_normal(len(boxes)).astype(np.float32) for level, boxes in anchors.items()}
    size = np.array([70.0, 90.0], np.float32)
    found = jax.jit(functools.partial(propose, most_of_level=30, most=25))(scores, shifts, anchors, size)
    expected = []
    for level, boxes in wanted.items():
        boxes = np.clip(boxes, 0, [90, 70, 90, 70]).astype(np.float64)
        kept = []
        for i in np.argsort(-scores[level])[:30]:
            is_large = np.all(boxes[i, 2:] - boxes[i, :2] >= 1)
            if is_large and all(iou(boxes[i], boxes[j]) <= 0.7 for j in kept):
                kept.append(i)
        expected += [(scores[level][i], boxes[i]) for i in kept]
    expected = [box for _, box in sorted(expected, key=lambda pair: -pair[0])][:25]
    assert np.sum(found.is_there) == len(expected)
    np.testing.assert_allclose(found.boxes[: len(expected)], expected, atol=1e-3)


def test_detections_are_suppressed_within_their_class_alone():
    boxes = np.array([[10, 10, 30, 30], [11, 10, 31, 30], [50, 50, 60, 60], [0, 0, 0, 0]], np.float32)
    proposals = Proposals(boxes, np.array([1, 1, 1, 0], bool))
    scores = np.array([[0.8, 0.15, 0.05], [0.5, 0.4, 0.1], [0.01, 0.02, 0.97], [0.9, 0.05, 0.05]])
    shifts = np.zeros((4, 2, 4), np.float32)
    shifts[0, 0, 0] = 1.0  # A tenth of the width, as shifts are learned in tenths.
    found = jax.jit(functools.partial(find, most=5))(
        np.log(scores), shifts, proposals, np.array([100.0, 100.0])
    )
    # The second's first class overlaps the first's; its second class suppresses the first's of that.
    np.testing.assert_array_equal(found.is_there, [1, 1, 0, 0, 0])
    np.testing.assert_allclose(found.scores[:2], [0.8, 0.4], rtol=1e-5)
    np.testing.assert_array_equal(found.labels[:2], [0, 1])
    np.testing.assert_allclose(found.boxes[:2], [[12, 10, 32, 30], [11, 10, 31, 30]], rtol=1e-5)


def test_the_pyramid_adds_each_level_to_the_finer_one():
    rng = np.random.default_rng(3)
    grids = [
        rng.standard_normal((1, 64 // 2**level, 128 // 2**level, 6)).astype(np.float32)
        for level in (2, 3, 4, 5)
    ]
    network = hk.without_apply_rng(hk.transform(lambda grids: FeaturePyramid(5)(grids)))
    params = network.init(jax.random.key(0), grids)
    # The convolutions that follow the sum pass it on as it is.
    for name, values in params.items():
        if 'output' in name:
            values['w'] = jnp.zeros((3, 3, 5, 5)).at[1, 1].set(jnp.eye(5))
    found = network.apply(params, grids)
    above = None
    for level, grid in zip((5, 4, 3, 2), grids[::-1], strict=True):
        w = np.asarray(params[f'feature_pyramid/~/lateral{level}']['w'])[0, 0]
        expected = grid @ w
        if above is not None:
            expected = expected + np.kron(above, np.ones((1, 2, 2, 1)))
        np.testing.assert_allclose(found[level], expected, rtol=1e-4, atol=1e-5)
        above = expected
    np.testing.assert_array_equal(found[6], found[5][:, ::2, ::2])


def test_a_linear_layer_that_is_spread_is_a_transposed_convolution():
    rng = np.random.default_rng(4)
    x, w = rng.standard_normal((2, 3, 5, 7)), rng.standard_normal((7, 2, 2, 4))
    expected = np.zeros((2, 6, 10, 4))
    for row in range(2):
        for column in range(2):
            expected[:, row::2, column::2] = x @ w[:, row, column]
    np.testing.assert_allclose(spread(jnp.asarray(x @ w.reshape(7, 16))), expected, rtol=1e-5, atol=1e-6)
