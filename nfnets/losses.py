"""Losses against mixed and smoothed labels (arXiv 2102.06171, appendix A.1), of single ones and of sets."""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax


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


def uniform(hot: jax.Array) -> jax.Array:
    """The distribution that gives each label of an example as much: [N, K] -> [N, K]; 0 if it has none."""
    return hot / jnp.maximum(jnp.sum(hot, axis=1, keepdims=True), 1.0)


def cross_entropy(logits: jax.Array, targets: jax.Array) -> jax.Array:
    """Cross-entropy of each example in nats, in float32: [N, K], [N, K] -> [N]."""
    log_probabilities = jax.nn.log_softmax(logits.astype(jnp.float32))
    return -jnp.sum(targets * log_probabilities, axis=-1)


def binary_cross_entropy(logits: jax.Array, targets: jax.Array) -> jax.Array:
    """Sum over classes of each one's own cross-entropy, in nats, in float32: [N, K], [N, K] -> [N]."""
    return jnp.sum(optax.sigmoid_binary_cross_entropy(logits.astype(jnp.float32), targets), axis=-1)


def softmax_log_odds(logits: jax.Array) -> jax.Array:
    """log(p / (1 - p)) of the probabilities p that softmax gives: [N, K] -> [N, K]."""
    log_probabilities = jax.nn.log_softmax(logits)
    return log_probabilities - jnp.log1p(-jnp.exp(log_probabilities))


class Loss(NamedTuple):
    """How labels become targets, and logits probabilities.

    Attributes:
      target: of an example's labels, from 1 for each and 0 for other classes: float32 [N, K] -> [N, K].
      of_each: logits [N, K] and targets [N, K] to the loss of each example, float32 [N], nats.
      probabilities: of logits [N, K], alike.
      log_odds: log(p / (1 - p)) of these, alike.
      needs_label: whether an example without a label says nothing; else it says that it is of no class.
      initial_bias: of the classifier for K classes; None: the network's own.
    """

    target: Callable[[jax.Array], jax.Array]
    of_each: Callable[[jax.Array, jax.Array], jax.Array]
    probabilities: Callable[[jax.Array], jax.Array]
    log_odds: Callable[[jax.Array], jax.Array]
    needs_label: bool
    initial_bias: Callable[[int], float] | None


def one_class_an_image(num_classes: int) -> float:
    """The bias with which each class begins at a probability of 1 / (K + 1), so one of the K an image.

    Else all that the first steps learn is that most classes are rare.
    """
    return -math.log(num_classes)


SOFTMAX = 'softmax'
LOSSES = {
    SOFTMAX: Loss(
        uniform, cross_entropy, jax.nn.softmax, softmax_log_odds, needs_label=True, initial_bias=None
    ),
    'sigmoid': Loss(
        lambda hot: hot,
        binary_cross_entropy,
        jax.nn.sigmoid,
        lambda x: x,
        needs_label=False,
        initial_bias=one_class_an_image,
    ),
}


def soft_targets(
    labels: jax.Array,
    mix_labels: jax.Array,
    ratio: jax.Array,
    *,
    num_classes: int,
    label_smoothing: float,
    loss: Loss = LOSSES[SOFTMAX],
) -> jax.Array:
    """Targets of mixed examples.

    Args:
      labels: int [N], or sets of them [N, L], of the first image of each pair.
      mix_labels: alike, of the second.
      ratio: [N], weight of the first, 0..1.
      num_classes: K.
      label_smoothing: fraction of each target that gives way to 1 / K for every class, 0..1.
      loss: what they are for.

    Returns:
      [N, K] float32, each 0..1; with softmax, rows sum to 1.
    """
    first, second = (multi_hot(each, num_classes) for each in (labels, mix_labels))
    if labels.ndim > 1:  # A single label is its own target.
        first, second = loss.target(first), loss.target(second)
    targets = ratio[:, None] * first + (1.0 - ratio[:, None]) * second
    return (1.0 - label_smoothing) * targets + label_smoothing / num_classes
