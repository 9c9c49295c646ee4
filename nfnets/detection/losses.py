"""The five losses of Mask R-CNN, each of one image, in float32.

References:
  [R] Ren et al. 2015, arXiv 1506.01497 (section 3.1.2).
  [G] Girshick 2015, arXiv 1504.08083 (section 2.3, equations 1 to 3).
  [H] He et al. 2017, arXiv 1703.06870 (section 3).
"""

import jax
import jax.numpy as jnp
import optax

from nfnets.detection.boxes import encode
from nfnets.detection.interpolation import take
from nfnets.detection.targets import AnchorTargets, Objects, RoiTargets

# Shifts of regions are learned in these units, as in Fast R-CNN's code: about their spread.
SHIFT_UNITS = (0.1, 0.1, 0.2, 0.2)


def anchor_losses(
    objectness: jax.Array, shifts: jax.Array, anchors: jax.Array, targets: AnchorTargets, objects: Objects
) -> dict[str, jax.Array]:
    """Losses of the region proposal network ([R] equation 1): means over the anchors sampled.

    Args:
      objectness: logits [A].
      shifts: [A, 4], in anchor sizes, see `encode`.
      anchors: [A, 4], px.
      targets: of the anchors.
      objects: of the image.

    Returns:
      'objectness', in nats, and 'anchor_shifts'.
    """
    sampled = targets.positive | targets.negative
    count = jnp.maximum(jnp.sum(sampled), 1)
    entropy = optax.sigmoid_binary_cross_entropy(
        objectness.astype(jnp.float32), targets.positive.astype(jnp.float32)
    )
    wanted = encode(_or_anchor(take(objects.boxes, targets.match), targets.positive, anchors), anchors)
    distance = _smooth_l1(shifts.astype(jnp.float32) - wanted)
    return {
        'objectness': jnp.sum(jnp.where(sampled, entropy, 0.0)) / count,
        'anchor_shifts': jnp.sum(jnp.where(targets.positive, distance, 0.0)) / count,
    }


def roi_losses(
    logits: jax.Array, shifts: jax.Array, targets: RoiTargets, objects: Objects
) -> dict[str, jax.Array]:
    """Losses of the box head ([G] equation 1): means over the regions.

    Args:
      logits: [R, K + 1], background last.
      shifts: [R, K, 4], for each class, in `SHIFT_UNITS`.
      targets: of the regions.
      objects: of the image.

    Returns:
      'classes', in nats, and 'roi_shifts'.
    """
    count = jnp.maximum(jnp.sum(targets.weight), 1.0)
    entropy = optax.softmax_cross_entropy_with_integer_labels(logits.astype(jnp.float32), targets.labels)
    on_object = is_on_object(targets, shifts.shape[1])
    of_class = jnp.sum(shifts * _one_hot(targets.labels, shifts.shape[1])[:, :, None], axis=1)
    boxes = _or_anchor(take(objects.boxes, targets.match), on_object, targets.boxes)
    wanted = encode(boxes, _or_unit(targets.boxes)) / jnp.asarray([SHIFT_UNITS])
    distance = _smooth_l1(of_class.astype(jnp.float32) - wanted)
    return {
        'classes': jnp.sum(entropy * targets.weight) / count,
        'roi_shifts': jnp.sum(jnp.where(on_object, distance, 0.0)) / count,
    }


def mask_loss(logits: jax.Array, wanted: jax.Array, labels: jax.Array, on_object: jax.Array) -> jax.Array:
    """Loss of the mask head ([H] section 3): mean over the pixels of the regions on objects, in nats.

    Args:
      logits: [R, S, S, K], for each class.
      wanted: float32 [R, S, S], 1 inside of the object.
      labels: int32 [R], the class whose mask counts.
      on_object: bool [R].
    """
    of_class = jnp.sum(logits * _one_hot(labels, logits.shape[-1])[:, None, None, :], axis=-1)
    entropy = optax.sigmoid_binary_cross_entropy(of_class.astype(jnp.float32), wanted)
    of_region = jnp.mean(entropy, axis=(1, 2))
    return jnp.sum(jnp.where(on_object, of_region, 0.0)) / jnp.maximum(jnp.sum(on_object), 1)


def is_on_object(targets: RoiTargets, num_classes: int) -> jax.Array:
    """Which regions lie on an object of one of the K classes, bool [R]."""
    return (targets.labels < num_classes) & (targets.weight > 0)


def _smooth_l1(x: jax.Array) -> jax.Array:
    """[G] equation 3, summed over the four shifts: [N, 4] -> [N]."""
    return jnp.sum(optax.huber_loss(x), axis=-1)


def _one_hot(labels: jax.Array, num_classes: int) -> jax.Array:
    return jax.nn.one_hot(labels, num_classes)  # All zeros for background.


def _or_anchor(boxes: jax.Array, is_matched: jax.Array, anchors: jax.Array) -> jax.Array:
    """The boxes, but where nothing is matched the anchors: logs of their sizes are finite."""
    return _or_unit(jnp.where(is_matched[:, None], boxes, anchors))


def _or_unit(boxes: jax.Array) -> jax.Array:
    """Boxes, the empty ones widened to a px: those are of places that nothing was found for."""
    return jnp.concatenate([boxes[:, :2], jnp.maximum(boxes[:, 2:], boxes[:, :2] + 1.0)], axis=-1)
