"""Adaptive gradient clipping (Brock et al. 2021, arXiv 2102.06171, section 4.1, equation 3)."""

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax


class AdaptiveGradClipState(NamedTuple):
    """State of `adaptive_grad_clip`.

    Attributes:
      clipped_fraction: share of the units whose gradient the last update clipped, float32 [].
      clipped_by_group: the same of each group of parameters, by name.
    """

    clipped_fraction: jax.Array
    clipped_by_group: dict[str, jax.Array]


def one_group(params: optax.Params) -> Any:
    """Names one group, 'all', for every parameter."""
    return jax.tree.map(lambda _: 'all', params)


def none_stacked(params: optax.Params) -> Any:
    """False for every parameter."""
    return jax.tree.map(lambda _: False, params)


def adaptive_grad_clip(
    clipping: float,
    eps: float = 1e-3,
    group_of: Callable[[optax.Params], Any] = one_group,
    is_stacked: Callable[[optax.Params], Any] = none_stacked,
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
      group_of: params to a tree like them of the groups' names, for the state's `clipped_by_group`.
      is_stacked: params to a tree like them of bools: whether the first axis counts parameters of several
        blocks, each with units of its own.

    Returns:
      An `optax.GradientTransformation` with `AdaptiveGradClipState`; its update needs `params`.
    """

    def init(params: optax.Params) -> AdaptiveGradClipState:
        zero = jnp.zeros((), jnp.float32)
        return AdaptiveGradClipState(zero, dict.fromkeys(jax.tree.leaves(group_of(params)), zero))

    def update(
        updates: optax.Updates, state: AdaptiveGradClipState, params: optax.Params | None = None
    ) -> tuple[optax.Updates, AdaptiveGradClipState]:
        if params is None:
            raise ValueError('adaptive_grad_clip compares with the params: update(updates, state, params)')
        leaves, treedef = jax.tree.flatten(updates)
        if not leaves:
            return updates, state
        # All units of all parameters in one vector: a comparison for each parameter would be thousands of
        # small operations, which XLA's CPU backend takes minutes to compile. Each group is a slice of it.
        groups, stacked = jax.tree.leaves(group_of(params)), jax.tree.leaves(is_stacked(params))
        order = np.argsort(groups, kind='stable')
        grads = [leaves[i] for i in order]
        norms = [_norms(leaves[i], stacked[i]) for i in order]
        norm = _concatenate(norms)
        weights = jax.tree.leaves(params)
        limit = clipping * jnp.maximum(_concatenate(_norms(weights[i], stacked[i]) for i in order), eps)
        within = norm <= limit  # False for NaN, which then shows in the whole unit.
        factor = jnp.where(within, 1.0, limit / jnp.where(within, 1.0, norm))
        factors = jnp.split(factor, np.cumsum([norm.size for norm in norms])[:-1])
        clipped = [
            (grad.astype(jnp.float32) * factor.reshape(norm.shape)).astype(grad.dtype)
            for grad, factor, norm in zip(grads, factors, norms, strict=True)
        ]
        sizes = dict.fromkeys(sorted(groups), 0)
        for i, unit_norms in zip(order, norms, strict=True):
            sizes[groups[i]] += unit_norms.size
        in_place = [clipped[i] for i in np.argsort(order)]
        return jax.tree.unflatten(treedef, in_place), _shares(~within, sizes)

    return optax.GradientTransformation(init, update)


def _shares(is_clipped: jax.Array, sizes: dict[str, int]) -> AdaptiveGradClipState:
    # Of bool [units], group after group.
    parts = jnp.split(is_clipped, np.cumsum(list(sizes.values()))[:-1])
    by_group = {name: jnp.mean(part, dtype=jnp.float32) for name, part in zip(sizes, parts, strict=True)}
    return AdaptiveGradClipState(jnp.mean(is_clipped, dtype=jnp.float32), by_group)


def _norms(x: jax.Array, is_stacked: bool) -> jax.Array:
    return jax.vmap(unitwise_norm)(x) if is_stacked else unitwise_norm(x)


def _concatenate(arrays: Iterable[jax.Array]) -> jax.Array:
    return jnp.concatenate([x.ravel() for x in arrays])


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
