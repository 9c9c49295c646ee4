"""Regions that the heads look at: the best of the anchors, moved and stretched, without duplicates."""

from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp

from nfnets.detection.boxes import clip, decode
from nfnets.detection.suppression import suppress

_OVERLAP = 0.7  # IoU above which the less likely of two is dropped (arXiv 1506.01497, section 3.3).
_LEAST_SIDE = 1.0  # px; smaller ones have nothing to pool.


class Proposals(NamedTuple):
    """The regions of one image, the likeliest first.

    Attributes:
      boxes: float32 [P, 4], px, inside of the image.
      is_there: bool [P]; the others are places that stayed empty.
    """

    boxes: jax.Array
    is_there: jax.Array


def propose(
    objectness: Mapping[int, jax.Array],
    shifts: Mapping[int, jax.Array],
    anchors: Mapping[int, jax.Array],
    image_size: jax.Array,
    *,
    most_of_level: int,
    most: int,
) -> Proposals:
    """Decodes the likeliest anchors, with non-maximum suppression in each level, and keeps the likeliest.

    No gradient passes: proposals are constants to the heads.

    Args:
      objectness: {level: logits [A]}.
      shifts: {level: [A, 4]}, in anchor sizes, see `encode`.
      anchors: {level: [A, 4]}, px.
      image_size: [2], height and width of what the image is without its padding, px.
      most_of_level: anchors kept of each level before the suppression.
      most: P, proposals kept after it.
    """
    scores, boxes = [], []
    for level, logits in objectness.items():
        score, index = jax.lax.top_k(logits.astype(jnp.float32), min(most_of_level, len(logits)))
        found = clip(decode(shifts[level][index].astype(jnp.float32), anchors[level][index]), image_size)
        is_large = jnp.all(found[:, 2:] - found[:, :2] >= _LEAST_SIDE, axis=-1)
        scores.append(jnp.where(suppress(found, is_large, _OVERLAP), score, -jnp.inf))
        boxes.append(found)
    score, index = jax.lax.top_k(jnp.concatenate(scores), min(most, sum(map(len, scores))))
    kept = Proposals(jnp.concatenate(boxes)[index], score > -jnp.inf)
    return jax.lax.stop_gradient(kept)
