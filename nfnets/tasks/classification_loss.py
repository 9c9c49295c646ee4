"""The loss of classification as it is differentiated."""

import haiku as hk
import jax
import jax.numpy as jnp

from nfnets import losses
from nfnets.data.augment import AugmentedBatch
from nfnets.models.param_names import Predicate
from nfnets.models.precision import in_training
from nfnets.train_step import LossFn, Metrics


def make_loss_fn(
    network: hk.TransformedWithState,
    *,
    num_classes: int,
    label_smoothing: float,
    precision: str,
    is_frozen: Predicate = lambda name: False,
    loss: losses.Loss = losses.LOSSES[losses.SOFTMAX],
) -> LossFn:
    """Builds the loss that is differentiated: the mean of those of a batch.

    Args:
      network: its apply takes (params, network_state, key, images [N, H, W, 3], is_training) and gives
        outputs with 'logits', and the state.
      num_classes: K.
      label_smoothing: as of `losses.soft_targets`.
      precision: as of `in_training`, and of the images; the loss stays in float32.
      is_frozen: alike.
      loss: of each example.
    """
    apply = in_training(network, precision, is_frozen)

    def loss_fn(
        network_state: hk.State, params: hk.Params, batch: AugmentedBatch, key: jax.Array
    ) -> tuple[jax.Array, tuple[Metrics, hk.State]]:
        out, network_state = apply(params, network_state, key, batch.images.astype(precision))
        targets = losses.soft_targets(
            batch.labels,
            batch.mix_labels,
            batch.ratio,
            num_classes=num_classes,
            label_smoothing=label_smoothing,
            loss=loss,
        )
        best = jnp.argmax(out['logits'], axis=-1)
        hits = (
            batch.labels == best if batch.labels.ndim == 1 else jnp.any(batch.labels == best[:, None], axis=1)
        )
        metrics = {'top_1': jnp.mean(hits)}
        return jnp.mean(loss.of_each(out['logits'], targets)), (metrics, network_state)

    return loss_fn
