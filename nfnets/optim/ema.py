"""Exponential moving average of the parameters, evaluated beside them (arXiv 2102.06171, appendix A).

Where there are statistics of batch normalization, they have an EMA too, as in the released code: those of the
last parameters do not fit the EMA of the parameters.
"""

import jax
import jax.numpy as jnp
import optax


def ema_decay(step: jax.Array, max_decay: float) -> jax.Array:
    """Decay in force at a step: min(max_decay, (1 + step) / (10 + step)).

    The warm-up lets the EMA forget the initial parameters. It reaches the released code's maximum of
    0.99999 only at step 899,990, far behind the end of a run of 112,602.

    Args:
      step: updates done before this one, int32 [].
      max_decay: what the decay grows to, 0..1.

    Returns:
      float32 [].
    """
    step = step.astype(jnp.float32)
    return jnp.minimum(max_decay, (1.0 + step) / (10.0 + step))


def update_ema(ema: optax.Params, new: optax.Params, step: jax.Array, max_decay: float) -> optax.Params:
    """Moves an EMA toward what was just updated.

    Args:
      ema: of parameters or of a network's state so far; the initial ones before the first step.
      new: after the step's update, of the same structure; integers are taken as they are.
      step: updates done before this one, int32 [].
      max_decay: see `ema_decay`.

    Returns:
      decay * ema + (1 - decay) * new.
    """
    decay = ema_decay(step, max_decay)

    def move(old: jax.Array, new: jax.Array) -> jax.Array:
        is_count = jnp.issubdtype(new.dtype, jnp.integer)
        return new if is_count else decay * old + (1.0 - decay) * new

    return jax.tree.map(move, ema, new)
