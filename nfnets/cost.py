"""What a network costs, counted on its traced program: parameters and multiply-adds."""

import functools
import math
from typing import Any

import haiku as hk
import jax
import jax.numpy as jnp
from jax.extend import core

from nfnets.models.nfnet import NFNet
from nfnets.variants import Variant


def count_parameters(variant: str | Variant, num_classes: int = 1000) -> int:
    """Number of values in all parameters; nothing is allocated."""
    return sum(math.prod(p.shape) for p in jax.tree.leaves(abstract_params(variant, num_classes)))


def count_multiply_adds(variant: str | Variant, size: int, num_classes: int = 1000) -> int:
    """Multiply-adds of convolutions and linear layers for one image of size x size px."""
    images = jax.ShapeDtypeStruct((1, size, size, 3), jnp.float32)
    apply = _network(variant, num_classes).apply
    traced = jax.make_jaxpr(lambda params, x: apply(params, None, x))
    return _multiply_adds(traced(abstract_params(variant, num_classes), images).jaxpr)


@functools.cache
def abstract_params(variant: str | Variant, num_classes: int) -> hk.Params:
    """Names, shapes and types of the parameters, without values."""
    init = _network(variant, num_classes).init
    return jax.eval_shape(init, jax.random.key(0), jnp.zeros((1, 32, 32, 3)))


def _network(variant: str | Variant, num_classes: int) -> hk.Transformed:
    return hk.transform(lambda images: NFNet(num_classes, variant)(images, is_training=False))


def _multiply_adds(jaxpr: Any) -> int:
    total = 0
    for equation in jaxpr.eqns:
        out = math.prod(equation.outvars[0].aval.shape)
        if equation.primitive.name == 'conv_general_dilated':
            kernel = equation.invars[1].aval.shape
            output_feature = equation.params['dimension_numbers'].rhs_spec[0]
            # Each output value sums over the kernel's extent and the input channels of its group.
            total += out * math.prod(kernel) // kernel[output_feature]
        elif equation.primitive.name == 'dot_general':
            (contracted, _), _ = equation.params['dimension_numbers']
            shape = equation.invars[0].aval.shape
            total += out * math.prod(shape[axis] for axis in contracted)
        for inner in jax.tree.leaves(equation.params, is_leaf=_is_jaxpr):
            if _is_jaxpr(inner):
                total += _multiply_adds(getattr(inner, 'jaxpr', inner))
    return total


def _is_jaxpr(value: object) -> bool:
    return isinstance(value, core.Jaxpr | core.ClosedJaxpr)
