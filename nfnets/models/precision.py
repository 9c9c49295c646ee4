"""What a precision of training, 'float32' or 'bfloat16', means for parameters and products."""

import contextlib
from contextlib import AbstractContextManager
from typing import Any

import haiku as hk
import jax

from nfnets.models.param_names import Predicate, map_names


def as_trained(params: hk.Params, dtype: Any, is_frozen: Predicate) -> hk.Params:
    """Parameters as a loss uses them: in a dtype, and those that are frozen, by their names, as constants."""
    frozen = map_names(is_frozen, params)
    params = jax.tree.map(lambda p, stop: jax.lax.stop_gradient(p) if stop else p, params, frozen)
    return jax.tree.map(lambda p: p.astype(dtype), params)


def products_of(precision: str) -> AbstractContextManager:
    """Products as a precision of training has them, for what is traced within, and for its gradients."""
    return float32_products() if precision == 'float32' else contextlib.nullcontext()


def float32_products() -> AbstractContextManager:
    """Products of float32 in float32 for what is traced within, and for its gradients if they are, too.

    By default XLA rounds their factors to bfloat16 on TPU, and may to TF32 on GPU, so that 'float32' would
    mean something else on each. The code released with the paper (arXiv 2102.06171) left it at the default:
    its evaluation, in float32, rounded factors to bfloat16 on TPU. CPUs do not round.
    """
    return jax.default_matmul_precision('highest')
