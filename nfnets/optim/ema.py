"""Exponential moving average of the parameters, evaluated beside them (arXiv 2102.06171, appendix A)."""

import jax
import jax.numpy as jnp
import optax


def ema_decay(step: jax.Array, max_decay: float) -> jax.Array:
    """Decay in force at a step: min(max_decay, (1 + step) / (10 + step)).

    The warm-up lets the average forget the initial parameters. It reaches the released code's maximum of
    0.99999 only at step 899,990, far behind the end of a run of 112,602.

    Args:
      step: updates done before this one, int32 [].
      max_decay: what the decay grows to, 0..1.

    Returns:
      float32 [].
    """
    step = step.astype(jnp.float32)
    return jnp.minimum(max_decay, (1.0 + step) / (10.0 + step))


def update_ema(
    ema_params: optax.Params, params: optax.Params, step: jax.Array, max_decay: float
) -> optax.Params:
    """Moves the average towards the parameters just updated.

    Args:
      ema_params: average so far; the initial parameters before the first step.
      params: parameters after the step's update, of the same structure.
      step: updates done before this one, int32 [].
      max_decay: see `ema_decay`.

    Returns:
      decay * ema_params + (1 - decay) * params.
    """
    decay = ema_decay(step, max_decay)
    return jax.tree.map(lambda ema, p: decay * ema + (1.0 - decay) * p, ema_params, params)
