"""Looks into traced programs."""

from collections.abc import Iterator

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
