"""How much a network's features tell: ridge regression on them, in closed form, of few images and of many.

The protocol is that of big_vision's few-shot evaluator, after Kolesnikov et al. 2020 (arXiv 1912.11370) and
Zhai et al. 2022 (arXiv 2106.04560): pooled features, standardized; targets 1 for an image's class and 0 for
the others; the class of the largest prediction counts.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import haiku as hk
import jax
import numpy as np

from nfnets import parallel
from nfnets.data.augment import normalize
from nfnets.data.source import Source
from nfnets.data.stream import EvalBatches
from nfnets.data.subset import Subset, some_of_each_class
from nfnets.errors import InputError
from nfnets.evaluation.evaluate import Variables
from nfnets.models.precision import float32_products

# Strengths of the penalty that are tried, in the unit of a standardized feature's sum of squares.
L2 = tuple(4.0**k for k in range(10))
_EPS = 1e-5  # Standard deviation that every feature counts with besides its own: some never vary.
_ROWS = 4096  # Predicted at once, which bounds memory.

FeatureStep = Callable[[Variables, dict], Any]


class LabeledFeatures(NamedTuple):
    """What a network makes of N images.

    Attributes:
      pooled: what its classifier sees, float32 [N, C].
      labels: int32 [N].
    """

    pooled: np.ndarray
    labels: np.ndarray

    def of(self, rows: Any) -> 'LabeledFeatures':
        """The features of some of the images, by any index of NumPy's."""
        return LabeledFeatures(self.pooled[rows], self.labels[rows])


def make_feature_step(network: hk.TransformedWithState) -> FeatureStep:
    """Builds the parallel step that computes features, in float32 as evaluation does.

    Args:
      network: its apply takes (params, network_state, key, images [N, H, W, 3], is_training) and gives
        outputs with 'pool', and the state.

    Returns:
      ((params, network_state), batch) to 'pool' [D, N, C], 'indices', 'labels' and 'mask' [D, N] of all
      devices of all hosts; the batch is that of `make_eval_step` of `evaluate.py`.
    """

    def step(variables: Variables, batch: dict[str, jax.Array]) -> dict[str, jax.Array]:
        with float32_products():
            outputs, _ = network.apply(*variables, None, normalize(batch['images']), False)
        kept = {name: batch[name] for name in ('indices', 'labels', 'mask')}
        return parallel.gather({'pool': outputs['pool'], **kept})

    return parallel.parallelize(step, arguments=(parallel.SAME, parallel.SPLIT))


def features(
    step: FeatureStep,
    variables: Variables,
    batches: Iterable[dict[str, np.ndarray]],
    num_examples: int,
    num_broken: Callable[[], int],
) -> tuple[LabeledFeatures, np.ndarray]:
    """The features of every example of a split.

    Args:
      step: from `make_feature_step`.
      variables: parameters and network state.
      batches: this process's part; every process must have as many.
      num_examples: N, in the split.
      num_broken: how many examples all processes together have skipped, asked at the end.

    Returns:
      The features by index in the split, in every process, and whether each example is there, bool [N].

    Raises:
      RuntimeError: an example was not computed exactly once.
    """
    pooled, labels, count = None, np.zeros(num_examples, np.int32), np.zeros(num_examples, np.int32)
    for batch in batches:
        one = jax.device_get(step(variables, parallel.shard_batch(batch)))
        is_there = one['mask'] > 0
        indices = one['indices'][is_there]
        if pooled is None:
            pooled = np.zeros((num_examples, one['pool'].shape[-1]), np.float32)
        pooled[indices], labels[indices] = one['pool'][is_there], one['labels'][is_there]
        np.add.at(count, indices, 1)
    if pooled is None or count.max() > 1 or count.sum() != num_examples - num_broken():
        raise RuntimeError(f'{count.sum()} features were computed where the split has {num_examples} images')
    return LabeledFeatures(pooled, labels), count > 0


class Ridge:
    """Ridge regression with an intercept that is not penalized, for any strength of the penalty.

    With standardized features X [N, C] and targets Y [N, K] the weights are (X'X + l2 I)^-1 X'Y, or
    X'(XX' + l2 I)^-1 Y, and the intercept is Y's mean, as X has none. The smaller of the two Gram matrices is
    diagonalized once. All is computed in float64.
    """

    def __init__(self, train: LabeledFeatures, num_classes: int):
        """Args: train is what it learns from; num_classes is K."""
        x = train.pooled.astype(np.float64)
        self._mean, self._std = x.mean(axis=0), x.std(axis=0) + _EPS
        x = (x - self._mean) / self._std
        y = np.eye(num_classes)[train.labels]
        self._intercept = y.mean(axis=0)
        is_tall = x.shape[0] >= x.shape[1]
        values, vectors = np.linalg.eigh(x.T @ x if is_tall else x @ x.T)
        self._values = np.maximum(values, 0)  # But for rounding they are.
        self._left = vectors if is_tall else x.T @ vectors
        self._right = vectors.T @ (x.T @ y if is_tall else y)

    def predict(self, pooled: np.ndarray, strengths: Sequence[float]) -> Iterator[np.ndarray]:
        """Predictions of features [N, C], float64 [N, K], for one strength of the penalty after another."""
        projected = ((pooled - self._mean) / self._std) @ self._left
        for strength in strengths:
            yield projected @ (self._right / (self._values + strength)[:, None]) + self._intercept


def accuracy(train: LabeledFeatures, evaluation: LabeledFeatures, num_classes: int) -> float:
    """Top-1 on `evaluation`, 0..1, of the regression on `train`, with the penalty of `L2` that is best there.

    big_vision takes one strength for all; the best one grows with the number of images, which is anything
    from one of each class to a whole split here.
    """
    ridge, hits = Ridge(train, num_classes), np.zeros(len(L2))
    for begin in range(0, len(evaluation.labels), _ROWS):
        part = evaluation.of(slice(begin, begin + _ROWS))
        hits += [np.sum(np.argmax(y, axis=1) == part.labels) for y in ridge.predict(part.pooled, L2)]
    return float(hits.max() / len(evaluation.labels))


class Probe:
    """Few-shot probes, and the linear probe, of a network on one data set.

    The linear probe is the same regression on every image of the training split.
    """

    def __init__(
        self,
        step: FeatureStep,
        batches: Callable[[Source], EvalBatches],
        train: Source,
        evaluation: Source,
        *,
        shots: Sequence[int],
        linear: bool,
    ):
        """Chooses what the probes learn from, which is always the same.

        Args:
          step: from `make_feature_step`.
          batches: gives this process's part of one pass over a split.
          train: the split to learn from, K classes, one label each.
          evaluation: the split to be evaluated on, of the same classes.
          shots: images of each class, for each few-shot probe.
          linear: whether there is the linear probe.

        Raises:
          InputError: a class has too few images, or they have several labels each.
        """
        for source in (train, evaluation):
            if source.label_shape:
                raise InputError(f'{source.describe(0)} has a set of labels, and a probe needs one of each')
        chosen = some_of_each_class(train, max(shots))
        rows = chosen if linear else np.arange(chosen.size).reshape(chosen.shape)
        self._rows = {f'{count}_shot': rows[:count].ravel() for count in shots}
        if linear:
            self._rows['linear'] = np.arange(len(train))
        self._train: Source = train if linear else Subset(train, chosen.ravel())
        self._evaluation, self._step, self._batches = evaluation, step, batches

    def __call__(self, variables: Variables) -> dict[str, float]:
        """Top-1, 0..1, of each probe: '5_shot' and so on, and 'linear'; every process must call it."""
        train, is_read = self._features(variables, self._train)
        evaluation, is_counted = self._features(variables, self._evaluation)
        num_classes = len(self._train.class_names)
        return {
            name: accuracy(train.of(rows[is_read[rows]]), evaluation.of(is_counted), num_classes)
            for name, rows in self._rows.items()
        }

    def _features(self, variables: Variables, source: Source) -> tuple[LabeledFeatures, np.ndarray]:
        batches = self._batches(source)
        num_broken = lambda: parallel.sum_over_processes(batches.skipped)  # noqa: E731
        return features(self._step, variables, batches, len(source), num_broken)
