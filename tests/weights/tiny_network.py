"""Parameters of small networks, drawn at random, and comparison bit by bit."""

import jax
import numpy as np
from pure_nfnet import make_network, parameter_shapes

from nfnets import Variant

VARIANT = Variant((32, 64), (1, 1), group_width=16)


def params(variant=VARIANT, num_classes=3, seed=0):
    """{module: {name: array}}, float32."""
    rng = np.random.default_rng(seed)
    shapes = parameter_shapes(make_network(num_classes, variant))
    return jax.tree.map(lambda x: np.asarray(rng.standard_normal(x.shape, np.float32)), shapes)


def assert_same(actual, expected):
    """Same names, shapes, types and bits."""
    assert {m: set(names) for m, names in actual.items()} == {m: set(names) for m, names in expected.items()}
    for module, names in expected.items():
        for name, value in names.items():
            np.testing.assert_array_equal(actual[module][name], value, strict=True)
