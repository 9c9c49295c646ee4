"""Precision of the products in convolutions and linear layers under 'float32'."""

from contextlib import AbstractContextManager

import jax


def float32_products() -> AbstractContextManager:
    """Products of float32 in float32 for what is traced within, and for its gradients if they are, too.

    By default XLA rounds their factors to bfloat16 on TPU, and may to TF32 on GPU, so that 'float32' would
    mean something else on each. The code released with the paper (arXiv 2102.06171) left it at the default:
    its evaluation, in float32, rounded factors to bfloat16 on TPU. CPUs do not round.
    """
    return jax.default_matmul_precision('highest')
