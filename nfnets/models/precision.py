"""What a precision of training, 'float32' or 'bfloat16', means for parameters and products."""

import contextlib
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import haiku as hk
import jax

from nfnets.models.param_names import Predicate, map_names


def in_training(
    network: hk.TransformedWithState, precision: str, is_frozen: Predicate
) -> Callable[[hk.Params, hk.State, jax.Array, Any], tuple[Any, hk.State]]:
    """The apply of a network as it is differentiated.

    Args:
      network: its apply takes (params, network_state, key, inputs, is_training).
      precision: 'float32', of products too (`float32_products`), or 'bfloat16' for the paper's policy:
        parameters are cast for the passes forward and back, and the gradients come out in float32.
      is_frozen: whether a parameter, by its name, is a constant; its gradient is zero, and free.

    Returns:
      A function of (params, network_state, key, inputs), whose images are in that precision.
    """

    def apply(
        params: hk.Params, network_state: hk.State, key: jax.Array, inputs: Any
    ) -> tuple[Any, hk.State]:
        frozen = map_names(is_frozen, params)
        params = jax.tree.map(lambda p, stop: jax.lax.stop_gradient(p) if stop else p, params, frozen)
        params = jax.tree.map(lambda p: p.astype(precision), params)
        with float32_products() if precision == 'float32' else contextlib.nullcontext():
            return network.apply(params, network_state, key, inputs, True)

    return apply


def float32_products() -> AbstractContextManager:
    """Products of float32 in float32 for what is traced within, and for its gradients if they are, too.

    By default XLA rounds their factors to bfloat16 on TPU, and may to TF32 on GPU, so that 'float32' would
    mean something else on each. The code released with the paper (arXiv 2102.06171) left it at the default:
    its evaluation, in float32, rounded factors to bfloat16 on TPU. CPUs do not round.
    """
    return jax.default_matmul_precision('highest')
