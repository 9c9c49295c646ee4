"""The loss of classification as it is differentiated."""

import haiku as hk
import jax
import jax.numpy as jnp

from nfnets import losses
from nfnets.data.augment import AugmentedBatch
from nfnets.models.param_names import Predicate
from nfnets.models.precision import as_trained, products_of
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
      precision: 'float32', of products too (`float32_products`), or 'bfloat16' for the paper's policy:
        parameters and images are cast for the passes forward and back, the gradients come out in float32,
        and the loss stays in float32.
      is_frozen: whether a parameter, by its name, is a constant; its gradient is zero, and free.
      loss: of each example.
    """
    dtype = jnp.dtype(precision)

    def loss_fn(
        network_state: hk.State, params: hk.Params, batch: AugmentedBatch, key: jax.Array
    ) -> tuple[jax.Array, tuple[Metrics, hk.State]]:
        params = as_trained(params, dtype, is_frozen)
        with products_of(precision):
            out, network_state = network.apply(params, network_state, key, batch.images.astype(dtype), True)
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
