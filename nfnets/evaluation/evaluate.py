"""Accuracy and loss over a whole split: every example once, whatever the batch and the devices."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np

from nfnets import losses, parallel
from nfnets.data.augment import normalize
from nfnets.errors import InputError
from nfnets.evaluation import average_precision
from nfnets.models.precision import float32_products

Tallies = dict[str, jax.Array]  # By name, int32 [D, ...] of each device (`average_precision`).
EvalStep = Callable[[dict, dict, Tallies], tuple[dict, Tallies]]
Results = dict[str, dict[str, float]]
Outcome = dict[str, Any]  # Of a batch: 'sums' by metric, float32 [] each, and 'predicted' on request.
# Parameters as the network takes them, and statistics of batch normalization or {}.
Variables = tuple[Any, hk.State]

_TOP = 5
_T = TypeVar('_T')
RECALL_AT = (3, 5, 10)  # Of sets of labels; 3 and 5 as in arXiv 1312.4894.


class Predicted(NamedTuple):
    """Predictions for N examples, those of all devices of all hosts.

    Attributes:
      indices: of the examples in their source, int32 [N].
      mask: float32 [N], 0 for padding.
      labels: int32 [N] or [N, L], as given.
      best: the five likeliest classes of those kept, the likeliest first, int32 [N, 5].
      probabilities: of these, among the classes kept, float32 [N, 5].
    """

    indices: Any
    mask: Any
    labels: Any
    best: Any
    probabilities: Any


Look = Callable[[Predicted], None]


def make_eval_step(
    network: hk.TransformedWithState,
    classes: Sequence[int] | None = None,
    *,
    predicts: bool = False,
    loss: losses.Loss = losses.LOSSES[losses.SOFTMAX],
) -> EvalStep:
    """Builds the parallel evaluation step, in float32 whatever the precision of training.

    Products are float32, too (`float32_products`): the released code left them to the backend, so on
    TPU their factors were rounded to bfloat16.

    Args:
      network: its apply takes (params, network_state, key, images [N, H, W, 3], is_training) and gives
        outputs with 'logits', and the state.
      classes: labels whose logits are kept; None: all.
      predicts: whether the outcome holds the predictions (`Predicted`).
      loss: to report, and how logits become probabilities.

    Returns:
      (variables by name, batch, tallies by name) to {name: {'sums': metrics summed over the real examples of
      all devices of all hosts, 'predicted': of the same}} and the tallies with this batch, each device's its
      own; they may be {}. The batch has 'images' [D, N, H, W, 3] (pixels, 0..255), 'labels'
      [D, N], or sets of them [D, N, L], and 'mask' [D, N], 1 for a real example and 0 for padding; to predict
      'indices' [D, N], too.
    """
    kept = None if classes is None else np.asarray(classes)

    def eval_step(
        variables_by_name: dict[str, Variables], batch: dict[str, jax.Array], tallies: Tallies
    ) -> tuple[dict[str, Outcome], Tallies]:
        images = normalize(batch['images'])
        outcomes: dict[str, Outcome] = {}
        counted: Tallies = {}
        for name, (params, network_state) in variables_by_name.items():
            with float32_products():
                logits = network.apply(params, network_state, None, images, False)[0]['logits']
            targets = losses.multi_hot(batch['labels'], logits.shape[-1])
            if kept is not None:
                logits, targets = logits[:, kept], targets[:, kept]
            metrics = example_metrics(logits, targets, loss)
            if batch['labels'].ndim > 1:
                metrics |= recalls(logits, targets)
            if name in tallies:
                tally = tallies[name], loss.log_odds(logits), targets, batch['mask'] * metrics['num_losses']
                counted[name] = average_precision.add_scores(*tally)
            sums = {key: jnp.sum(value * batch['mask']) for key, value in metrics.items()}
            outcomes[name] = {'sums': parallel.total(sums)}
            if predicts:
                _, best = jax.lax.top_k(logits, min(_TOP, logits.shape[-1]))
                probabilities = jnp.take_along_axis(loss.probabilities(logits), best, axis=1)
                best = best if kept is None else jnp.asarray(kept, jnp.int32)[best]
                one = Predicted(batch['indices'], batch['mask'], batch['labels'], best, probabilities)
                outcomes[name]['predicted'] = parallel.gather(one)
        return outcomes, counted

    return parallel.parallelize(
        eval_step,
        arguments=(parallel.SAME, parallel.SPLIT, parallel.SPLIT),
        results=(parallel.SAME, parallel.SPLIT),
        donate_argument=2,
    )


def example_metrics(logits: jax.Array, targets: jax.Array, loss: losses.Loss) -> dict[str, jax.Array]:
    """The metrics that an evaluation sums, for each example; hits and 'num_examples' are 0 without a label.

    Args:
      logits: [N, K].
      targets: [N, K], 1 for each label of an example, any of which is a hit, as arXiv 2006.07159 counts.
      loss: to report.

    Returns:
      'loss' (nats, no smoothing; 0 where it needs a label and there is none), 'num_losses' (1 where it is
      one), 'top_1', 'top_5' (0 or 1; of all classes where there are fewer than five), 'num_examples' (1) and
      'num_unlabeled' (1 where 'num_examples' is 0), each float32 [N].
    """
    hits = _hits(logits, targets, _TOP)
    is_labeled = jnp.max(targets, axis=1)
    return {
        'loss': loss.of_each(logits, loss.target(targets)),
        'num_losses': is_labeled if loss.needs_label else jnp.ones_like(is_labeled),
        'top_1': hits[:, 0],
        'top_5': jnp.max(hits, axis=1),
        'num_examples': is_labeled,
        'num_unlabeled': 1 - is_labeled,
    }


def recalls(logits: jax.Array, targets: jax.Array) -> dict[str, jax.Array]:
    """Recall at each k of `RECALL_AT`: the fraction of an example's labels among its k likeliest classes.

    Args:
      logits: [N, K].
      targets: [N, K], 1 for each label of an example.

    Returns:
      {'recall_at_3': float32 [N]} and so on; at all classes where there are fewer than k.
    """
    found = jnp.cumsum(_hits(logits, losses.uniform(targets), max(RECALL_AT)), axis=1)
    return {f'recall_at_{k}': found[:, min(k, found.shape[1]) - 1] for k in RECALL_AT}


def _hits(logits: jax.Array, targets: jax.Array, most: int) -> jax.Array:
    """The targets of the likeliest classes, the likeliest first: [N, K], [N, K] -> [N, most]."""
    _, best = jax.lax.top_k(logits, min(most, logits.shape[-1]))
    return jnp.take_along_axis(targets, best, axis=1)


def evaluate(
    eval_step: EvalStep,
    variables_by_name: Mapping[str, Variables],
    batches: Iterable[dict[str, np.ndarray]],
    expected_examples: Callable[[], int],
    look: Look | None = None,
    tally_classes: int | None = None,
) -> Results:
    """Evaluates several sets of variables over the same batches.

    Args:
      eval_step: from `make_eval_step`.
      variables_by_name: such as {'eval': (params, network_state), 'eval_ema': their EMAs}.
      batches: this process's part; every process must have as many.
      expected_examples: how many examples all processes together must have counted, checked at the end.
      look: called with the predictions for each batch, if the step predicts, in order and in every process.
      tally_classes: number of classes kept, where the average precision of each is measured; None: it is not.

    Returns:
      {name: {'loss', 'top_1', 'top_5', 'num_examples'}}, means over the examples that have a label, and
      'num_unlabeled' where some have none; these count in a loss that needs no label. Of sets also
      'recall_at_3' and so on (`recalls`) and, over classes, 'mean_average_precision'; their 'top_1' is the
      precision at 1.

    Raises:
      InputError: no example has a label.
      RuntimeError: the examples counted are not as many as expected.
    """
    # Sums of one batch are exact in float32; those of a split might not be.
    totals: dict[str, dict[str, float]] = {name: {} for name in variables_by_name}
    tallies: Tallies = {}
    if tally_classes is not None:
        shape = average_precision.tally_shape(tally_classes)
        tallies = {name: parallel.zeros_on_each(shape, jnp.int32) for name in variables_by_name}

    def dispatched() -> Iterator[dict[str, Outcome]]:
        nonlocal tallies
        for batch in batches:
            outcomes, tallies = eval_step(dict(variables_by_name), parallel.shard_batch(batch), tallies)
            yield outcomes

    for outcomes in one_behind(dispatched()):
        for name, outcome in jax.device_get(outcomes).items():
            for key, value in outcome['sums'].items():
                totals[name][key] = totals[name].get(key, 0.0) + float(value)
            if look is not None:
                look(Predicted(*(x.reshape(-1, *x.shape[2:]) for x in outcome['predicted'])))
    results = {name: _means(values, expected_examples()) for name, values in totals.items()}
    for name, tally in tallies.items():
        counted = average_precision.mean_average_precision(parallel.total_of_all(tally))
        results[name]['mean_average_precision'] = counted
    return results


def one_behind(dispatched: Iterable[_T]) -> Iterator[_T]:
    """Yields what was dispatched once the next is, so that a device never waits for the host between two."""
    pending: _T | None = None
    for outcomes in dispatched:
        if pending is not None:
            yield pending
        pending = outcomes
    if pending is not None:
        yield pending


def _means(totals: dict[str, float], expected: int) -> dict[str, float]:
    count, unlabeled = (round(totals.get(key, 0.0)) for key in ('num_examples', 'num_unlabeled'))
    if count + unlabeled != expected or expected == 0:
        raise RuntimeError(f'evaluation counted {count + unlabeled} examples where the split has {expected}')
    if count == 0:
        raise InputError(f'none of the {unlabeled} examples to evaluate on has a label')
    means = {'loss': totals['loss'] / totals['num_losses']}
    means |= {key: total / count for key, total in totals.items() if key.startswith(('top_', 'recall_'))}
    return {**means, 'num_examples': count, **({'num_unlabeled': unlabeled} if unlabeled else {})}
