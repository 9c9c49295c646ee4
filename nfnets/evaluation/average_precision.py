"""Mean average precision from counts of scores, which are summed over batches, devices and processes.

Scores are log-odds, rounded down to 1/32 from -16 to 16; what is beyond falls into the outer bins. The
average precision of the rounded scores is exact. It is that of the scores themselves but for the order of
positive and negative examples in one bin. A class takes 8 kB of each device, however many examples there are.
"""

import jax
import jax.numpy as jnp
import numpy as np

_PER_UNIT = 32  # Bins for each unit of the log-odds.
_BINS = 1024


def tally_shape(num_classes: int) -> tuple[int, ...]:
    """The shape [2, K, bins] of the counts of K classes: of negative examples, then of positive ones."""
    return 2, num_classes, _BINS


def add_scores(tally: jax.Array, scores: jax.Array, targets: jax.Array, mask: jax.Array) -> jax.Array:
    """Counts some examples.

    Args:
      tally: int32, of `tally_shape`.
      scores: log-odds of each class, [N, K].
      targets: 1 for the labels of an example, 0 for other classes, [N, K].
      mask: 1 for examples that count, 0 for others, [N].

    Returns:
      The tally with them.
    """
    bins = jnp.clip(jnp.floor(scores * _PER_UNIT) + _BINS // 2, 0, _BINS - 1).astype(jnp.int32)
    classes = jnp.arange(scores.shape[1])[None, :]
    return tally.at[targets.astype(jnp.int32), classes, bins].add(mask.astype(jnp.int32)[:, None])


def mean_average_precision(tally: np.ndarray) -> float:
    """Mean of the average precisions of all classes that have a positive example.

    A class's is the sum, over thresholds from above, of the precision times the recall that is won: the area
    in steps, without interpolation, as scikit-learn's `average_precision_score`.

    Args:
      tally: of all examples, of `tally_shape`; some class has a positive one.

    Returns:
      0..1.
    """
    negative, positive = tally
    found = np.flatnonzero(positive.any(axis=1))
    return float(np.mean([_average_precision(negative[k], positive[k]) for k in found]))


def _average_precision(negative: np.ndarray, positive: np.ndarray) -> float:
    right = np.cumsum(positive[::-1], dtype=np.int64)
    chosen = right + np.cumsum(negative[::-1], dtype=np.int64)
    return float(np.sum(positive[::-1] * right / np.maximum(chosen, 1)) / right[-1])
