"""The outputs of the stages are what the blocks give as they are called."""

import haiku as hk
import jax
import jax.numpy as jnp
import pytest

from nfnets import Variant
from nfnets.models.networks import NETWORKS, make_network, variable_shapes

FOUR = Variant((8, 16, 16, 24), (1, 2, 1, 1), group_width=2, second_conv=False)
SIDES = [(15, 9), (8, 5), (4, 3), (2, 2)]  # 60 and 33 px by 4, 8, 16 and 32, rounded up.


@pytest.mark.parametrize('name', NETWORKS)
def test_a_grid_is_what_the_last_block_of_its_stage_gives(name):
    network = make_network(name, 3, FOUR)

    def grids(params, state):
        given = []

        def look(call, args, kwargs, context):
            out = call(*args, **kwargs)
            if hasattr(context.module, 'branch') and context.method_name == '__call__':
                given.append(out)
            return out

        with hk.intercept_methods(look):
            outputs, _ = network.apply(params, state, None, jnp.zeros((2, 60, 33, 3)), False)
        first, _, *others = given  # The second stage has two blocks.
        assert all(grid is block for grid, block in zip(outputs['grids'], (first, *others), strict=True))
        return outputs['grids']

    shapes = jax.eval_shape(grids, *variable_shapes(network))
    assert [grid.shape for grid in shapes] == [(2, *s, c) for s, c in zip(SIDES, FOUR.widths, strict=True)]
