"""The loss of detection as it is differentiated."""

import haiku as hk
import jax
import jax.numpy as jnp

from nfnets.detection.detector import Scenes
from nfnets.models.param_names import Predicate
from nfnets.models.precision import in_training
from nfnets.train_step import LossFn, Metrics


def make_loss_fn(
    network: hk.TransformedWithState, *, precision: str, is_frozen: Predicate = lambda name: False
) -> LossFn:
    """Builds the loss that is differentiated: the sum of Mask R-CNN's five, means over a batch's images.

    Args:
      network: of `make_detector`.
      precision: as of `in_training`, and of the images; boxes and losses are float32 in either.
      is_frozen: alike.

    Returns:
      The loss of `Scenes`, whose metrics are the five, 'loss/objectness' and so on.
    """
    apply = in_training(network, precision, is_frozen)

    def loss_fn(
        network_state: hk.State, params: hk.Params, scenes: Scenes, key: jax.Array
    ) -> tuple[jax.Array, tuple[Metrics, hk.State]]:
        scenes = scenes._replace(images=scenes.images.astype(precision))
        found, network_state = apply(params, network_state, key, scenes)
        metrics = {f'loss/{name}': value for name, value in found.items()}
        return sum(found.values(), start=jnp.zeros(())), (metrics, network_state)

    return loss_fn
