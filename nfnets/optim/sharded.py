"""Weight-update sharding: each device keeps momentum and EMA of its own rows of the parameters alone.

Xu et al. 2020 (arXiv 2004.13336), but for AGC: gradients are summed and clipped as a whole on each device, so
that no unit is split. Rows are input channels, an axis that TPUs slice on the way; one made of several axes
would take passes over memory of its own. All of this runs inside a parallel function.
"""

import jax
import optax

from nfnets import parallel


def own_part(tree: optax.Params) -> optax.Params:
    """This device's rows of each parameter, or of what is like them (`parallel.own_rows`)."""
    return jax.tree.map(parallel.own_rows, tree)


def whole(parts: optax.Params, like: optax.Params) -> optax.Params:
    """The tree whose `own_part` each device gives, with the shapes of another."""
    return jax.tree.map(lambda part, x: parallel.all_rows(part, x.shape), parts, like)


def sharded(transform: optax.GradientTransformation) -> optax.GradientTransformation:
    """Like a transformation of one element at a time, each device computing its own rows of the updates.

    Args:
      transform: needs no parameters for its update.

    Returns:
      An `optax.GradientTransformation`: `init` gives the state of all rows, `update` takes and gives that of
      this device's rows, and takes and gives all rows of the updates.
    """

    def update(
        updates: optax.Updates, state: optax.OptState, params: optax.Params | None = None
    ) -> tuple[optax.Updates, optax.OptState]:
        del params
        parts, state = transform.update(own_part(updates), state)
        with jax.named_scope('all-gather'):
            return whole(parts, updates), state

    return optax.GradientTransformation(transform.init, update)
