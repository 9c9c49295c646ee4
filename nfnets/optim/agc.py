"""Adaptive gradient clipping (Brock et al. 2021, arXiv 2102.06171, section 4.1, equation 3)."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from nfnets.models.param_names import Predicate, map_names


class AdaptiveGradClipState(NamedTuple):
    """State of `adaptive_grad_clip`.

    Attributes:
      clipped_fraction: fraction of the units whose gradient the last update clipped, float32 [].
      clipped_by_group: the same of each group of parameters, by name.
    """

    clipped_fraction: jax.Array
    clipped_by_group: dict[str, jax.Array]


def adaptive_grad_clip(
    clipping: float,
    eps: float = 1e-3,
    group_of: Callable[[str], str] = lambda name: 'all',
    is_stacked: Predicate = lambda name: False,
) -> optax.GradientTransformation:
    r"""Clips the gradient of each unit to a multiple of the norm of the unit's parameters.

    .. math::
      G_i \rightarrow \lambda \frac{\max(\|W_i\|, \epsilon)}{\|G_i\|} G_i
      \quad \text{where} \quad \|G_i\| > \lambda \max(\|W_i\|, \epsilon)

    A unit is one output: the fan-in of a convolution [H, W, I, O], a column of a linear layer [I, O];
    a scalar or a vector, with or without axes of length 1, is one unit as a whole. Norms are taken and
    compared in float32 whatever the gradients' type. A NaN or an infinity spreads over its unit and no
    further, as in optax. To leave a layer out, wrap in `optax.masked`.

    Args:
      clipping: lambda, the largest ratio of the gradient's norm to the parameters'; 0.01 in the paper,
        where larger batches want smaller values.
      eps: least norm that parameters count with, so that those starting at zero can move.
      group_of: the group of a parameter, by its name 'module/name', for the state's `clipped_by_group`.
      is_stacked: whether the first axis of a parameter, by its name, counts blocks with units of their own.

    Returns:
      An `optax.GradientTransformation` with `AdaptiveGradClipState`; its update needs `params`.
    """

    def init(params: optax.Params) -> AdaptiveGradClipState:
        zero = jnp.zeros((), jnp.float32)
        groups = jax.tree.leaves(map_names(group_of, params))
        return AdaptiveGradClipState(zero, dict.fromkeys(groups, zero))

    def clip(updates: optax.Updates, params: optax.Params) -> tuple[optax.Updates, AdaptiveGradClipState]:
        grads, treedef = jax.tree.flatten(updates)
        stacked = jax.tree.leaves(map_names(is_stacked, params))
        norms = _norms(grads, stacked)
        # All units of all parameters in one vector: a comparison for each parameter would be thousands of
        # small operations, which XLA's CPU backend takes minutes to compile.
        norm = _concatenate(norms)
        limit = clipping * jnp.maximum(_concatenate(_norms(jax.tree.leaves(params), stacked)), eps)
        within = norm <= limit  # False for NaN, which then shows in the whole unit.
        factor = jnp.where(within, 1.0, limit / jnp.where(within, 1.0, norm))
        factors = jnp.split(factor, np.cumsum([each.size for each in norms])[:-1])
        clipped = [
            (grad.astype(jnp.float32) * each.reshape(norm.shape)).astype(grad.dtype)
            for grad, norm, each in zip(grads, norms, factors, strict=True)
        ]
        groups = np.repeat(jax.tree.leaves(map_names(group_of, params)), [each.size for each in norms])
        return jax.tree.unflatten(treedef, clipped), _fractions(~within, groups)

    def update(
        updates: optax.Updates, state: AdaptiveGradClipState, params: optax.Params | None = None
    ) -> tuple[optax.Updates, AdaptiveGradClipState]:
        if params is None:
            raise ValueError('adaptive_grad_clip compares with the params: update(updates, state, params)')
        if not jax.tree.leaves(updates):
            return updates, state
        with jax.named_scope('agc'):
            return clip(updates, params)

    return optax.GradientTransformation(init, update)


def _fractions(is_clipped: jax.Array, groups: np.ndarray) -> AdaptiveGradClipState:
    """Fractions clipped, from bool [units] and the name of each unit's group [units]."""
    names, members = np.unique(groups, return_inverse=True)
    members = members.astype(np.int8)  # A constant of the compiled program.
    by_group = {
        str(name): jnp.mean(is_clipped, where=members == k, dtype=jnp.float32) for k, name in enumerate(names)
    }
    return AdaptiveGradClipState(jnp.mean(is_clipped, dtype=jnp.float32), by_group)


def _norms(arrays: Sequence[jax.Array], stacked: Sequence[bool]) -> list[jax.Array]:
    return [
        (jax.vmap(unitwise_norm) if several else unitwise_norm)(x)
        for x, several in zip(arrays, stacked, strict=True)
    ]


def _concatenate(arrays: Sequence[jax.Array]) -> jax.Array:
    return jnp.concatenate([x.ravel() for x in arrays])


@jax.jit(inline=True)  # Traced once for all arrays of a shape.
def unitwise_norm(x: jax.Array) -> jax.Array:
    """L2 norm of each unit of a parameter or gradient, float32, broadcastable against it.

    Args:
      x: [], [N], linear [I, O], [G, I, O] or convolution [H, W, I, O], of any float type.

    Returns:
      [] or with 1 for every axis summed over: the input axes, or all axes of what is no more than a
      vector once its axes of length 1 are dropped.

    Raises:
      ValueError: more than four axes that are not of length 1.
    """
    x = x.astype(jnp.float32)
    rank = sum(size > 1 for size in x.shape)
    if rank <= 1:
        axes = tuple(range(x.ndim))
    elif x.ndim <= 3:
        axes = (0,)
    elif x.ndim == 4:
        axes = (0, 1, 2)
    else:
        raise ValueError(f'no unit-wise norm for the shape {x.shape}: at most 4 axes')
    return jnp.sqrt(jnp.sum(jnp.square(x), axis=axes, keepdims=True))
