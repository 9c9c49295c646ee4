"""All that changes from step to step: the one thing that is donated and checkpointed."""

from typing import NamedTuple

import haiku as hk
import jax
import jax.numpy as jnp
import optax


class TrainState(NamedTuple):
    """State of a run after `step` updates.

    Random numbers are a function of the run's seed and the step, so there is no key here.

    Attributes:
      step: updates done, int32 [].
      params: {module: {name: array}}, float32.
      ema_params: their moving average, alike.
      opt_state: of the optimiser.
    """

    step: jax.Array
    params: hk.Params
    ema_params: hk.Params
    opt_state: optax.OptState


def init_train_state(params: hk.Params, optimizer: optax.GradientTransformation) -> TrainState:
    """The state before the first step: the average starts at the parameters."""
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        # A copy: donation takes the memory of each leaf, which must not be that of another.
        ema_params=jax.tree.map(jnp.copy, params),
        opt_state=optimizer.init(params),
    )
