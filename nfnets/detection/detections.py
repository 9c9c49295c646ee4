"""What the heads found, as boxes with classes and scores (He et al. 2017, arXiv 1703.06870, section 3.1)."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from nfnets.detection.boxes import clip, decode
from nfnets.detection.losses import SHIFT_UNITS
from nfnets.detection.proposals import Proposals
from nfnets.detection.suppression import suppress

_OVERLAP = 0.5  # IoU of two of a class, above which the less likely is dropped.
_LEAST_SCORE = 0.05
_CANDIDATES = 10  # Pairs of region and class that are looked at, in multiples of what is kept.


class Detections(NamedTuple):
    """The objects found in one image, the likeliest first.

    Attributes:
      boxes: float32 [D, 4], px.
      labels: int32 [D], classes from 0.
      scores: float32 [D], probabilities.
      is_there: bool [D]; the others are places that stayed empty.
    """

    boxes: jax.Array
    labels: jax.Array
    scores: jax.Array
    is_there: jax.Array


def find(
    logits: jax.Array, shifts: jax.Array, proposals: Proposals, image_size: jax.Array, most: int
) -> Detections:
    """Scores each pair of region and class, with non-maximum suppression within each class.

    Args:
      logits: [P, K + 1], background last.
      shifts: [P, K, 4], in `SHIFT_UNITS`.
      proposals: P regions.
      image_size: [2], height and width without padding, px.
      most: D, detections kept.
    """
    num_classes = shifts.shape[1]
    scores = jax.nn.softmax(logits.astype(jnp.float32))[:, :num_classes]
    scores = jnp.where(proposals.is_there[:, None], scores, 0.0).reshape(-1)
    score, index = jax.lax.top_k(scores, min(_CANDIDATES * most, len(scores)))
    labels = index % num_classes
    units = jnp.asarray([SHIFT_UNITS], jnp.float32)
    chosen = shifts.reshape(-1, 4)[index].astype(jnp.float32) * units
    boxes = clip(decode(chosen, proposals.boxes[index // num_classes]), image_size)
    # Boxes of different classes are put where they cannot overlap.
    apart = boxes + (labels * 2.0 * jnp.max(image_size)).astype(jnp.float32)[:, None]
    kept = suppress(apart, score >= _LEAST_SCORE, _OVERLAP)
    score, index = jax.lax.top_k(jnp.where(kept, score, 0.0), min(most, len(score)))
    return Detections(boxes[index], labels[index], score, score > 0)
