"""Arrays whose axes lie in memory in their own order, as those of the training state do.

XLA's TPU compiler gives the gradient of a kernel the order that its convolution likes, and so the update:
then it copies parameters, momentum and EMA back instead of the gradient alone.
"""

import jax
from jax.experimental.layout import Layout, with_layout_constraint
from jax.extend.core import Primitive
from jax.interpreters import mlir


def row_major(x: jax.Array) -> jax.Array:
    """The same array; on a TPU with its last axis last in memory."""
    return row_major_p.bind(x)


def _constrained(x: jax.Array) -> jax.Array:
    return with_layout_constraint(x, Layout(tuple(range(x.ndim))))


row_major_p = Primitive('row_major')
row_major_p.def_impl(lambda x: x)
row_major_p.def_abstract_eval(lambda x: x)
mlir.register_lowering(row_major_p, lambda ctx, x: [x])
mlir.register_lowering(row_major_p, mlir.lower_fun(_constrained, multiple_results=False), platform='tpu')
