"""Activations scaled to keep unit variance (Brock et al. 2021, arXiv 2101.08692, section 3).

Each is gamma * f(x), with gamma = 1 / std(f(x)) for x ~ N(0, 1): the variance that a scaled
weight-standardized convolution preserves is then preserved by the activation that follows it.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp

Activation = Callable[[jax.Array], jax.Array]

_traced_once = jax.jit(inline=True)  # For all arrays of a shape.

GAMMAS = {
    'gelu': 1.7015043497085571,  # Of the tanh approximation.
    'relu': 1.7139588594436646,
    'silu': 1.7881293296813965,
}


@_traced_once
def scaled_gelu(x: jax.Array) -> jax.Array:
    """GELU (tanh approximation) with unit output variance for x ~ N(0, 1); any shape."""
    return jax.nn.gelu(x, approximate=True) * jnp.asarray(GAMMAS['gelu'], x.dtype)


@_traced_once
def scaled_relu(x: jax.Array) -> jax.Array:
    """ReLU with unit output variance for x ~ N(0, 1); any shape."""
    return jax.nn.relu(x) * jnp.asarray(GAMMAS['relu'], x.dtype)


@_traced_once
def scaled_silu(x: jax.Array) -> jax.Array:
    """SiLU with unit output variance for x ~ N(0, 1); any shape."""
    return jax.nn.silu(x) * jnp.asarray(GAMMAS['silu'], x.dtype)


ACTIVATIONS: dict[str, Activation] = {
    'gelu': scaled_gelu,
    'relu': scaled_relu,
    'silu': scaled_silu,
}

# As they are, for networks whose normalization or initialization sees to the variance.
PLAIN_ACTIVATIONS: dict[str, Activation] = {
    'gelu': functools.partial(jax.nn.gelu, approximate=True),
    'relu': jax.nn.relu,
    'silu': jax.nn.silu,
}
