"""Looks into traced programs."""

from collections.abc import Iterator

import jax
from jax.extend import core

# Convolutions, their two gradients, and products of matrices.
PRODUCTS = ('convolve', 'convolve_to_input', 'convolve_to_kernel', 'dot_general')


def equations(jaxpr) -> Iterator:
    """Every equation of a jaxpr and of those within it."""
    for equation in jaxpr.eqns:
        yield equation
        for value in equation.params.values():
            if isinstance(value, tuple) and equation.primitive.name == 'cond':
                value = value[-1]  # Of the forms that backends have of the same computation, the default.
            if hasattr(value, 'eqns') or hasattr(value, 'jaxpr'):
                yield from equations(getattr(value, 'jaxpr', value))


def names(jaxpr, around='') -> Iterator[str]:
    """What each equation of a jaxpr and of all within it is called: scopes around it, and its primitive."""
    for equation in jaxpr.eqns:
        name = f'{around}/{equation.source_info.name_stack}/{equation.primitive.name}'
        yield name
        for value in jax.tree.leaves(equation.params, is_leaf=_is_jaxpr):
            if _is_jaxpr(value):
                yield from names(getattr(value, 'jaxpr', value), name)


def _is_jaxpr(value):
    return isinstance(value, core.Jaxpr | core.ClosedJaxpr)
