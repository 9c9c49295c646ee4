"""Cross-entropy against mixed and smoothed labels (arXiv 2102.06171, appendix A.1)."""

import jax
import jax.numpy as jnp


def soft_targets(
    labels: jax.Array,
    mix_labels: jax.Array,
    ratio: jax.Array,
    *,
    num_classes: int,
    label_smoothing: float,
) -> jax.Array:
    """Target distributions of mixed examples.

    Args:
      labels: [N], int, of the first image of each pair.
      mix_labels: [N], int, of the second.
      ratio: [N], weight of the first, 0..1.
      num_classes: K.
      label_smoothing: fraction of each target that is spread over all classes, 0..1.

    Returns:
      [N, K] float32; rows sum to 1.
    """
    first = jax.nn.one_hot(labels, num_classes)
    second = jax.nn.one_hot(mix_labels, num_classes)
    targets = ratio[:, None] * first + (1.0 - ratio[:, None]) * second
    return (1.0 - label_smoothing) * targets + label_smoothing / num_classes


def multi_hot(labels: jax.Array, num_classes: int) -> jax.Array:
    """1 for each label of an example, 0 for the other classes.

    Args:
      labels: int [N], or sets of them [N, L], filled up with negative numbers.
      num_classes: K.

    Returns:
      float32 [N, K].
    """
    if labels.ndim == 1:
        return jax.nn.one_hot(labels, num_classes)
    places = jnp.where(labels < 0, num_classes, labels)  # JAX would count negative ones from the end.
    return jax.vmap(lambda row: jnp.zeros(num_classes).at[row].set(1.0, mode='drop'))(places)


def cross_entropy(logits: jax.Array, targets: jax.Array) -> jax.Array:
    """Cross-entropy of each example in nats, in float32: [N, K], [N, K] -> [N]."""
    log_probabilities = jax.nn.log_softmax(logits.astype(jnp.float32))
    return -jnp.sum(targets * log_probabilities, axis=-1)
