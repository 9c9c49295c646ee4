"""Gradients of a batch, computed part by part: a large batch in the memory of a small one."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax


def accumulated_value_and_grad(value_and_grad: Callable[..., Any], steps: int) -> Callable[..., Any]:
    """Like `value_and_grad`, but averaged over equal parts of the batch, computed one after another.

    Args:
      value_and_grad: (params, batch, key) to ((loss, aux), grads), each a mean over the examples; the leaves
        of batch are [N, ...], those of aux are numbers or arrays, integers the same for all parts; grads are
        like params.
      steps: number of parts, a divisor of N; each has a random key of its own. With 1 it is `value_and_grad`.

    Returns:
      A function of the same arguments that gives ((loss, aux), grads), each the mean over the parts.
    """
    if steps == 1:
        return value_and_grad

    def accumulated(params: optax.Params, batch: Any, key: jax.Array) -> Any:
        def add(total: optax.Params, index: jax.Array) -> tuple[optax.Params, Any]:
            part = every_nth(batch, index, steps)
            values, grads = value_and_grad(params, part, jax.random.fold_in(key, index))
            return jax.tree.map(jnp.add, total, grads), values

        total, values = jax.lax.scan(add, jax.tree.map(jnp.zeros_like, params), jnp.arange(steps))
        return jax.tree.map(_mean_of_parts, values), jax.tree.map(lambda g: g / steps, total)

    return accumulated


def _mean_of_parts(x: jax.Array) -> jax.Array:
    return x[0] if jnp.issubdtype(x.dtype, jnp.integer) else jnp.mean(x, axis=0)


def every_nth(batch: Any, start: int | jax.Array, n: int) -> Any:
    """Examples start, start + n, start + 2 n, ...: halves of a batch may be mixed in different ways.

    Args:
      batch: a tree with leaves [N, ...].
      start: 0 .. n - 1; may be traced.
      n: a divisor of N.

    Returns:
      The same tree with leaves [N / n, ...].
    """
    return jax.tree.map(lambda x: x.reshape(-1, n, *x.shape[1:])[:, start], batch)
