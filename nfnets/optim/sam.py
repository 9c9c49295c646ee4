"""Sharpness-aware minimization (Foret et al. 2021, arXiv 2010.01412) as the NFNets were trained with.

Brock et al. 2021 (arXiv 2102.06171, section 5 and appendix A): the gradient that the parameters climb by is
taken on a fifth of the same batch, and each device climbs by its own, without a sum over devices. A network's
state, such as the statistics of batch normalization, is that of this first pass, as in the code of Foret et
al.: the second one is at parameters that nobody keeps.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

LossFn = Callable[..., tuple[jax.Array, Any]]


def sam_value_and_grad(loss_fn: LossFn, *, rho: float, ascent_fraction: float) -> Callable[..., Any]:
    """Like `jax.value_and_grad(loss_fn, has_aux=True)`, but at params + rho * g / |g|.

    g is the gradient at `params` on part of the batch; |g| its norm over all parameters. Where it is zero the
    parameters stay.

    Args:
      loss_fn: (params, batch, ...) to (loss, (metrics, network_state)); the leaves of batch are [N, ...].
      rho: length of the step up, in the parameters' own unit; 0 for the ordinary gradient.
      ascent_fraction: fraction of the batch that g is taken on, above 0 and up to 1; at least one example.

    Returns:
      A function of loss_fn's arguments that gives ((loss, (metrics, network_state)), grads). Loss, metrics
      and gradients are those of the whole batch at the perturbed parameters; network_state is that of the
      part of the batch at `params`.
    """
    value_and_grad = jax.value_and_grad(loss_fn, has_aux=True)
    if rho == 0.0:
        return value_and_grad

    def perturbed(params: optax.Params, batch: Any, *args: Any) -> Any:
        (_, (_, network_state)), ascent = value_and_grad(params, spread_part(batch, ascent_fraction), *args)
        norm = optax.tree.norm(ascent)
        scale = jnp.where(norm > 0.0, rho / jnp.where(norm > 0.0, norm, 1.0), 0.0)
        (loss, (metrics, _)), grads = value_and_grad(
            optax.tree.add_scale(params, scale, ascent), batch, *args
        )
        return (loss, (metrics, network_state)), grads

    return perturbed


def spread_part(batch: Any, fraction: float) -> Any:
    """A fraction of the examples, evenly spread: halves of a batch may be mixed in different ways.

    Args:
      batch: a tree with leaves [N, ...].
      fraction: of the examples to take, rounded to the nearest number, at least one.

    Returns:
      The same tree with leaves [max(1, round(fraction * N)), ...].
    """
    size = jax.tree.leaves(batch)[0].shape[0]
    part = max(1, round(fraction * size))
    chosen = [index * size // part for index in range(part)]
    return jax.tree.map(lambda x: x[jnp.asarray(chosen)], batch)
