"""Accuracy and loss over a whole split: every example once, whatever the batch and the devices."""

from collections.abc import Callable, Iterable, Iterator, Mapping

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np

from nfnets import losses, parallel
from nfnets.data.augment import normalize
from nfnets.models.precision import float32_products

EvalStep = Callable[[dict, dict], dict]
Results = dict[str, dict[str, float]]
Sums = dict[str, dict[str, jax.Array]]  # By name, then by metric; float32 [] each.
Variables = tuple[hk.Params, hk.State]  # Parameters, and statistics of batch normalization or {}.


def make_eval_step(network: hk.TransformedWithState) -> EvalStep:
    """Builds the parallel evaluation step, in float32 whatever the precision of training.

    Products are float32, too (`float32_products`): the released code left them to the backend, so on
    TPU their factors were rounded to bfloat16.

    Args:
      network: its apply takes (params, network_state, key, images [N, H, W, 3], is_training) and gives
        outputs with 'logits', and the state.

    Returns:
      (variables by name, batch) to sums by name over the real examples of all devices of all hosts. The
      batch has 'images' [D, N, H, W, 3] (pixels, 0..255), 'labels' [D, N] and 'mask' [D, N], 1 for a real
      example and 0 for padding.
    """

    def eval_step(
        variables_by_name: dict[str, Variables], batch: dict[str, jax.Array]
    ) -> dict[str, dict[str, jax.Array]]:
        images = normalize(batch['images'])
        sums = {}
        for name, (params, network_state) in variables_by_name.items():
            with float32_products():
                logits = network.apply(params, network_state, None, images, False)[0]['logits']
            sums[name] = {
                key: jnp.sum(value * batch['mask'])
                for key, value in example_metrics(logits, batch['labels']).items()
            }
        return parallel.total(sums)

    return parallel.parallelize(eval_step, arguments=(parallel.SAME, parallel.SPLIT))


def example_metrics(logits: jax.Array, labels: jax.Array) -> dict[str, jax.Array]:
    """The metrics that an evaluation sums, for each example.

    Args:
      logits: [N, K].
      labels: [N], int.

    Returns:
      'loss' (nats, no smoothing), 'top_1', 'top_5' (0 or 1; of all classes where there are fewer than
      five) and 'num_examples' (1), each float32 [N].
    """
    targets = jax.nn.one_hot(labels, logits.shape[-1])
    _, best = jax.lax.top_k(logits, min(5, logits.shape[-1]))
    hits = best == labels[:, None]
    return {
        'loss': losses.cross_entropy(logits, targets),
        'top_1': hits[:, 0].astype(jnp.float32),
        'top_5': jnp.any(hits, axis=1).astype(jnp.float32),
        'num_examples': jnp.ones(labels.shape, jnp.float32),
    }


def evaluate(
    eval_step: EvalStep,
    variables_by_name: Mapping[str, Variables],
    batches: Iterable[dict[str, np.ndarray]],
    expected_examples: Callable[[], int],
) -> Results:
    """Evaluates several sets of variables over the same batches.

    Args:
      eval_step: from `make_eval_step`.
      variables_by_name: such as {'eval': (params, network_state), 'eval_ema': their EMAs}.
      batches: this process's part; every process must have as many.
      expected_examples: how many examples all processes together must have counted, checked at the end.

    Returns:
      {name: {'loss', 'top_1', 'top_5', 'num_examples'}}, means over the examples counted.

    Raises:
      RuntimeError: the examples counted are not as many as expected.
    """
    # Sums of one batch are exact in float32; those of a split might not be.
    totals: dict[str, dict[str, float]] = {name: {} for name in variables_by_name}
    for sums in _one_behind(eval_step(dict(variables_by_name), parallel.shard_batch(b)) for b in batches):
        for name, values in jax.device_get(sums).items():
            for key, value in values.items():
                totals[name][key] = totals[name].get(key, 0.0) + float(value)
    return {name: _means(values, expected_examples()) for name, values in totals.items()}


def _one_behind(dispatched: Iterable[Sums]) -> Iterator[Sums]:
    """Yields what was dispatched once the next is, so that a device never waits for the host between two."""
    pending: Sums | None = None
    for sums in dispatched:
        if pending is not None:
            yield pending
        pending = sums
    if pending is not None:
        yield pending


def _means(totals: dict[str, float], expected: int) -> dict[str, float]:
    count = round(totals.get('num_examples', 0.0))
    if count != expected or count == 0:
        raise RuntimeError(f'evaluation counted {count} examples where the split has {expected}')
    means = {key: totals[key] / count for key in ('loss', 'top_1', 'top_5')}
    return {**means, 'num_examples': count}
