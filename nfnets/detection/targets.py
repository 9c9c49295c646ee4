"""Training targets of anchors and proposals, matched with the objects and sampled at random.

All shapes are static: an image has room for G objects, and `present` says which places hold one. Crowds are
no objects to find; what lies in one is neither right nor wrong.

References:
  [R] Ren et al. 2015, arXiv 1506.01497 (Faster R-CNN).
  [G] Girshick 2015, arXiv 1504.08083 (Fast R-CNN, section 2.3).
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from nfnets.detection.boxes import covered, iou

_POSITIVE, _NEGATIVE = 0.7, 0.3  # Of anchors ([R] section 3.1.2).
_OBJECT = 0.5  # Of proposals ([G]).
_IN_CROWD = 0.5  # Fraction of a box that lies in one crowd.
_ANCHORS, _POSITIVE_ANCHORS = 256, 128  # Of an image ([R] section 3.1.3).
_OBJECT_FRACTION = 0.25  # Of the proposals that an image is trained on ([G]).


class Objects(NamedTuple):
    """The objects of one image.

    Attributes:
      boxes: float32 [G, 4], px.
      labels: int32 [G], classes from 0.
      present: bool [G], whether the place holds an object to find.
      crowd: bool [G], whether it holds a crowd.
    """

    boxes: jax.Array
    labels: jax.Array
    present: jax.Array
    crowd: jax.Array


class AnchorTargets(NamedTuple):
    """Training targets of the A anchors of one image.

    Attributes:
      positive: bool [A], sampled, and on an object.
      negative: bool [A], sampled, and on none.
      match: int32 [A], the object of the largest IoU.
    """

    positive: jax.Array
    negative: jax.Array
    match: jax.Array


class RoiTargets(NamedTuple):
    """R regions of one image that its heads are trained on.

    Attributes:
      boxes: float32 [R, 4], px.
      labels: int32 [R], classes from 0; the number of classes for background.
      match: int32 [R], the object of the largest IoU.
      weight: float32 [R], 0 for places that no region was found for.
    """

    boxes: jax.Array
    labels: jax.Array
    match: jax.Array
    weight: jax.Array


def match_anchors(key: jax.Array, anchors: jax.Array, objects: Objects) -> AnchorTargets:
    """Matches anchors with objects, and samples up to 256, up to half of them positive ([R] section 3.1).

    An anchor is positive from an IoU of 0.7 on, or if no other anchor has a larger IoU with some object. It
    is negative below an IoU of 0.3 with all objects.

    Args:
      key: random.
      anchors: [A, 4], px.
      objects: of the image.
    """
    overlap = jnp.where(objects.present[None, :], iou(anchors, objects.boxes), 0.0)
    most = jnp.max(overlap, axis=1)
    best_of_object = jnp.max(overlap, axis=0)
    is_best = jnp.any((overlap == best_of_object[None, :]) & (overlap > 0), axis=1)
    is_positive = (most >= _POSITIVE) | is_best
    is_negative = (most < _NEGATIVE) & ~is_positive & ~_in_crowd(anchors, objects)
    positive_key, negative_key = jax.random.split(key)
    positive = sample(positive_key, is_positive, _POSITIVE_ANCHORS, _POSITIVE_ANCHORS)
    negative = sample(negative_key, is_negative, _ANCHORS, _ANCHORS - jnp.sum(positive))
    return AnchorTargets(positive, negative, jnp.argmax(overlap, axis=1))


def most_on_objects(count: int) -> int:
    """Most regions on objects among the `count` that the heads are trained on; they come first."""
    return int(count * _OBJECT_FRACTION)


def sample_rois(
    key: jax.Array,
    proposals: jax.Array,
    is_there: jax.Array,
    objects: Objects,
    *,
    count: int,
    num_classes: int,
) -> RoiTargets:
    """Samples regions, up to a quarter of them on objects, from proposals and the objects themselves ([G]).

    Args:
      key: random.
      proposals: [P, 4], px.
      is_there: bool [P], whether the place holds a proposal.
      objects: of the image.
      count: R, regions sampled.
      num_classes: K, the label of background.
    """
    boxes = jnp.concatenate([proposals, objects.boxes])
    is_there = jnp.concatenate([is_there, objects.present])
    overlap = jnp.where(objects.present[None, :], iou(boxes, objects.boxes), 0.0)
    most = jnp.max(overlap, axis=1)
    is_object = is_there & (most >= _OBJECT)
    is_background = is_there & (most < _OBJECT) & ~_in_crowd(boxes, objects)
    object_key, background_key = jax.random.split(key)
    limit = most_on_objects(count)
    chosen = sample(object_key, is_object, limit, limit)
    others = sample(background_key, is_background, count, count - jnp.sum(chosen))
    # Objects first, then background, then places to fill.
    rank, index = jax.lax.top_k(2.0 * chosen + 1.0 * others, count)
    match = jnp.argmax(overlap, axis=1)[index]
    labels = jnp.where(rank == 2.0, objects.labels[match], num_classes)
    return RoiTargets(boxes[index], labels, match, (rank > 0).astype(jnp.float32))


def _in_crowd(boxes: jax.Array, objects: Objects) -> jax.Array:
    overlap = jnp.where(objects.crowd[None, :], covered(boxes, objects.boxes), 0.0)
    return jnp.max(overlap, axis=1) >= _IN_CROWD


def sample(key: jax.Array, is_eligible: jax.Array, most: int, limit: int | jax.Array) -> jax.Array:
    """Chooses at random, each alike, up to `limit` of those eligible, bool [N]; `most` bounds the limit."""
    draws = jnp.where(is_eligible, jax.random.uniform(key, is_eligible.shape), -1.0)
    best, _ = jax.lax.top_k(draws, min(most, len(draws)))
    # The draw of the last one chosen; with a limit of 0 none is.
    place = jnp.clip(jnp.asarray(limit) - 1, 0, len(best) - 1)
    return is_eligible & (draws >= best[place]) & (jnp.asarray(limit) > 0)
