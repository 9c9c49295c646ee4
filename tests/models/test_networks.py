"""What holds for every network by its name alone."""

import dataclasses

import jax
import pytest

from nfnets.models.networks import NETWORKS, init_variables, make_network, variable_shapes


@pytest.mark.parametrize('name', NETWORKS)
def test_shapes_are_those_of_what_is_drawn(name):
    variant = dataclasses.replace(next(iter(NETWORKS[name].variants.values())), widths=(256,), depths=(2,))
    network = make_network(name, 10, variant)
    shapes = variable_shapes(network)
    drawn = jax.eval_shape(lambda key: init_variables(network, key), jax.random.key(0))
    assert jax.tree.structure(shapes) == jax.tree.structure(drawn)
    assert jax.tree.leaves(shapes) == jax.tree.leaves(drawn)
