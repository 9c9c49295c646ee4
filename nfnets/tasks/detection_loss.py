"""The loss of detection as it is differentiated."""

import haiku as hk
import jax
import jax.numpy as jnp

from nfnets.detection.detector import Scenes
from nfnets.models.param_names import Predicate
from nfnets.models.precision import as_trained, products_of
from nfnets.train_step import LossFn, Metrics


def make_loss_fn(
    network: hk.TransformedWithState, *, precision: str, is_frozen: Predicate = lambda name: False
) -> LossFn:
    """Builds the loss that is differentiated: the sum of Mask R-CNN's five, means over a batch's images.

    Args:
      network: of `make_detector`.
      precision: 'float32' or 'bfloat16', as of classification; boxes and losses are float32 in either.
      is_frozen: whether a parameter, by its name, is a constant; its gradient is zero, and free.

    Returns:
      The loss of `Scenes`, whose metrics are the five, 'loss/objectness' and so on.
    """
    dtype = jnp.dtype(precision)

    def loss_fn(
        network_state: hk.State, params: hk.Params, scenes: Scenes, key: jax.Array
    ) -> tuple[jax.Array, tuple[Metrics, hk.State]]:
        params = as_trained(params, dtype, is_frozen)
        scenes = scenes._replace(images=scenes.images.astype(dtype))
        with products_of(precision):
            found, network_state = network.apply(params, network_state, key, scenes, True)
        metrics = {f'loss/{name}': value for name, value in found.items()}
        return sum(found.values(), start=jnp.zeros(())), (metrics, network_state)

    return loss_fn
