"""All that changes from step to step: the one thing that is donated and checkpointed."""

from collections.abc import Callable
from typing import Any, NamedTuple

import haiku as hk
import jax
import jax.numpy as jnp
import optax


class TrainState(NamedTuple):
    """State of a run after `step` updates.

    Random numbers are a function of the run's seed and the step, so there is no key here.

    Attributes:
      step: updates done, int32 [].
      params: {module: {name: array}}, float32; those of blocks that are alike may be stacked.
      network_state: statistics of batch normalization, alike; {} for networks without it.
      ema_params: EMA of the parameters, alike.
      ema_network_state: of the network's state.
      opt_state: of the optimizer.
    """

    step: jax.Array
    params: hk.Params
    network_state: hk.State
    ema_params: hk.Params
    ema_network_state: hk.State
    opt_state: optax.OptState


def init_train_state(
    params: hk.Params, optimizer: optax.GradientTransformation, network_state: hk.State | None = None
) -> TrainState:
    """The state before the first step: the EMAs start at the parameters and at the network's state.

    Args:
      params: {module: {name: array}}, float32, stacked or not.
      optimizer: whose state is initialized.
      network_state: statistics of batch normalization, alike; None for networks without it.
    """
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        network_state=network_state or {},
        # Copies: donation takes the memory of each leaf, which must not be that of another.
        ema_params=jax.tree.map(jnp.copy, params),
        ema_network_state=jax.tree.map(jnp.copy, network_state or {}),
        opt_state=optimizer.init(params),
    )


def map_params(fn: Callable[[hk.Params], hk.Params], state: TrainState) -> TrainState:
    """Applies a function to the parameters, to their EMA, and to what the optimizer keeps for each.

    What a masked transformation keeps for some of the parameters is not expected.
    """

    def is_params(tree: Any) -> bool:
        return isinstance(tree, dict) and tree.keys() == state.params.keys()

    return jax.tree.map(lambda x: fn(x) if is_params(x) else x, state, is_leaf=is_params)
