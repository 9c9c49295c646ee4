"""Parameters and multiply-adds of a network, counted on its traced program.

Counted are convolutions (`convolve`) and matrix products, a multiplication and its addition as one; not
activations, pooling, weight standardization and biases, as is usual in published figures.
"""

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.extend import core

from nfnets.models.convolution import convolve_p, to_input_p, to_kernel_p
from nfnets.models.networks import make_network
from nfnets.models.variants import Variant


class Cost(NamedTuple):
    """Size and work of a network.

    Attributes:
      parameters: values in all parameters.
      tensors: arrays that hold them.
      multiply_adds: of convolutions and linear layers, for one image.
    """

    parameters: int
    tensors: int
    multiply_adds: int


def network_cost(variant: str | Variant, size: int, num_classes: int = 1000, network: str = 'NFNet') -> Cost:
    """Counts a network in evaluation; nothing is computed or allocated.

    Args:
      variant: name or `Variant`.
      size: side of the images, px.
      num_classes: number of logits.
      network: its kind, one of `NETWORKS`.

    Raises:
      InputError: the variant does not exist.
    """
    init = functools.partial(make_network(network, num_classes, variant).init, is_training=False)
    images = jax.ShapeDtypeStruct((1, size, size, 3), jnp.float32)
    # Initialization runs the network once, so its trace holds both: parameters and program.
    program, (params, _) = jax.make_jaxpr(init, return_shape=True)(jax.random.key(0), images)
    sizes = [math.prod(p.shape) for p in jax.tree.leaves(params)]
    return Cost(sum(sizes), len(sizes), multiply_adds(program.jaxpr))


def multiply_adds(jaxpr: Any) -> int:
    """Multiply-adds of the convolutions and matrix products of a jaxpr and of all within it.

    Loops of `jax.lax.scan` count as often as they run. A convolution's gradients take as many as itself.
    """
    total = 0
    for equation in jaxpr.eqns:
        if equation.primitive in _CONVOLUTIONS:
            # Each output value of the convolution sums over the kernel's extent and a group's input channels.
            values = _CONVOLUTIONS[equation.primitive](equation).aval
            total += math.prod(values.shape) * math.prod(equation.params['w_shape'][:3])
        elif equation.primitive.name == 'dot_general':
            (contracted, _), _ = equation.params['dimension_numbers']
            shape, out = equation.invars[0].aval.shape, equation.outvars[0].aval.shape
            total += math.prod(out) * math.prod(shape[axis] for axis in contracted)
        times = equation.params['length'] if equation.primitive.name == 'scan' else 1
        total += times * sum(map(multiply_adds, _inner(equation)))
    return total


# Of an equation the variable that has the convolution's output, or its gradient.
_CONVOLUTIONS: dict[Any, Callable[[Any], Any]] = {
    convolve_p: lambda equation: equation.outvars[0],
    to_input_p: lambda equation: equation.invars[0],
    to_kernel_p: lambda equation: equation.invars[1],
}


def kept_for_backward(jaxpr: Any) -> int:
    """Values that convolutions and matrix products of a jaxpr give: a backward pass needs as many or more."""
    total = 0
    for equation in jaxpr.eqns:
        if equation.primitive.name in (convolve_p.name, 'dot_general'):
            total += math.prod(equation.outvars[0].aval.shape)
        times = equation.params['length'] if equation.primitive.name == 'scan' else 1
        total += times * sum(map(kept_for_backward, _inner(equation)))
    return total


def _inner(equation: Any) -> list[Any]:
    """The jaxprs within an equation; of the forms that backends have of the same computation, the default."""
    found = jax.tree.leaves(equation.params, is_leaf=_is_jaxpr)
    programs = [getattr(each, 'jaxpr', each) for each in found if _is_jaxpr(each)]
    return programs[-1:] if equation.primitive.name == 'cond' else programs


def _is_jaxpr(value: object) -> bool:
    return isinstance(value, core.Jaxpr | core.ClosedJaxpr)
