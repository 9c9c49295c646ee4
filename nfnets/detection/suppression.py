"""Non-maximum suppression on the device, with static shapes."""

import jax
import jax.numpy as jnp

from nfnets.detection.boxes import iou


def suppress(boxes: jax.Array, is_there: jax.Array, threshold: float) -> jax.Array:
    """Greedy non-maximum suppression: a box is dropped that overlaps one kept before it.

    What is kept is the one answer to "a box is kept if none before it is kept that it overlaps". From the
    guess that all are, applying that rule again and again makes each box right once those before it are, and
    nearly always all of them in a few rounds: each is a product, where going box by box would be N small
    steps.

    Args:
      boxes: [N, 4], px, those of the highest score first.
      is_there: bool [N]; the others are neither kept nor suppress any.
      threshold: intersection over union above which boxes overlap.

    Returns:
      bool [N], which are kept.
    """
    before = jnp.arange(len(boxes))[:, None] < jnp.arange(len(boxes))[None, :]
    suppresses = ((iou(boxes, boxes) > threshold) & before).astype(jnp.float32)

    def rule(kept: jax.Array) -> jax.Array:
        return is_there & (kept.astype(jnp.float32) @ suppresses == 0)

    def has_changed(pair: tuple[jax.Array, jax.Array]) -> jax.Array:
        return jnp.any(pair[0] != pair[1])

    kept = rule(is_there)
    return jax.lax.while_loop(has_changed, lambda pair: (pair[1], rule(pair[1])), (kept, rule(kept)))[1]
