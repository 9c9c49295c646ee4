"""NFNet against the numbers that the released code produced."""

import golden_numbers
import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nfnets import NFNet, Variant
from nfnets.errors import InputError

SMALL = Variant(
    widths=(32, 64),
    depths=(1, 2),
    group_width=8,
    train_size=32,
    eval_size=32,
    dropout_rate=0.0,
    randaugment_magnitude=0,
)


def _network(**settings):
    network = hk.transform(lambda x, is_training: NFNet(**settings)(x, is_training))
    init, apply = jax.jit(network.init, static_argnums=2), jax.jit(network.apply, static_argnums=3)
    return hk.Transformed(init, apply)


def test_names_and_shapes_of_f0_are_those_of_the_released_weights():
    network = _network(num_classes=1000)
    init = lambda key, x: network.init(key, x, False)  # noqa: E731
    params = jax.eval_shape(init, jax.random.key(0), jnp.zeros((1, 64, 64, 3)))
    shapes = {name: list(x.shape) for name, x in golden_numbers.flat(params).items()}
    assert shapes == golden_numbers.f0_shapes()


def test_a_small_network_has_the_shapes_that_were_asked_for():
    network = _network(num_classes=10, variant=SMALL)
    images = jnp.zeros((3, 32, 32, 3))
    params = network.init(jax.random.key(0), images, True)
    out = network.apply(params, jax.random.key(1), images, True)
    assert out['logits'].shape == (3, 10)
    assert out['pool'].shape == (3, 128)
    assert params['NFNet/~/nf_block_2/~/conv1']['w'].shape == (3, 3, 8, 32)
    assert sum('skip_gain' in names for names in params.values()) == 3


def test_a_new_network_is_its_shortcuts():
    """Skip gains start at zero, so branches have no gradient but through the gain."""
    network = _network(num_classes=10, variant=SMALL, stochastic_depth_rate=0.0)
    images = jax.random.normal(jax.random.key(2), (2, 32, 32, 3))
    params = network.init(jax.random.key(0), images, True)
    loss = lambda p: jnp.sum(network.apply(p, None, images, True)['pool'] ** 2)  # noqa: E731
    grads = jax.jit(jax.grad(loss))(params)
    assert all(np.all(np.isfinite(g)) for g in jax.tree.leaves(grads))
    assert not np.any(grads['NFNet/~/nf_block_1/~/conv0']['w'])
    assert abs(float(grads['NFNet/~/nf_block_1']['skip_gain'])) > 0


def test_drop_rates_grow_linearly_with_depth_from_zero():
    stages = hk.transform(lambda: NFNet(10, 'F0', stochastic_depth_rate=0.24).stages).apply({}, None)
    rates = [setting.drop_rate or 0.0 for stage in stages for _, setting in stage]
    np.testing.assert_allclose(rates, 0.24 * np.arange(12) / 12, rtol=1e-12)


@pytest.mark.parametrize('rates', [(0.5, 0.0), (0.0, 0.9)], ids=['dropout', 'stochastic_depth'])
def test_what_is_random_acts_in_training_alone(rates):
    dropout, depth = rates
    network = _network(num_classes=10, variant=SMALL, dropout_rate=dropout, stochastic_depth_rate=depth)
    images = jax.random.normal(jax.random.key(2), (2, 32, 32, 3))
    params = network.init(jax.random.key(0), images, True)
    for names in params.values():  # A branch that starts closed cannot be seen to be dropped.
        if 'skip_gain' in names:
            names['skip_gain'] = jnp.ones(())
    trained = [network.apply(params, jax.random.key(k), images, True)['logits'] for k in (1, 2)]
    assert np.any(trained[0] != trained[1])
    evaluated = [network.apply(params, jax.random.key(k), images, False)['logits'] for k in (1, 2)]
    np.testing.assert_array_equal(*evaluated)


def test_an_unknown_variant_names_those_there_are():
    with pytest.raises(InputError, match=r"'F8'; there are F0, F1, .*F7\+"):
        _network(num_classes=10, variant='F8').init(jax.random.key(0), jnp.zeros((1, 32, 32, 3)), False)
