"""NFNet against the numbers that the released code produced."""

import dataclasses

import golden_numbers
import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy_layers import random_params
from pure_nfnet import init_params, make_network, parameter_shapes

from nfnets import NFNet, Variant
from nfnets.errors import InputError
from nfnets.models import networks
from nfnets.models.networks import NETWORKS, init_variables
from nfnets.models.param_layout import UNSTACKED, stack_alike
from nfnets.models.variants import NFNETS, RECIPES

SMALL = Variant(widths=(32, 64), depths=(1, 2), group_width=8)


TINY = Variant(widths=(8, 8), depths=(1, 1), group_width=None, second_conv=False)  # Soon compiled.


def test_names_and_shapes_of_f0_are_those_of_the_released_weights():
    shapes = golden_numbers.flat(parameter_shapes(make_network(1000)))
    assert {name: list(x.shape) for name, x in shapes.items()} == golden_numbers.f0_shapes()


def test_a_small_network_has_the_shapes_that_were_asked_for():
    network = make_network(10, SMALL)
    params = parameter_shapes(network)
    out = jax.eval_shape(
        lambda params, images: network.apply(params, jax.random.key(1), images, True),
        params,
        jnp.zeros((3, 32, 32, 3)),
    )
    assert out['logits'].shape == (3, 10)
    assert out['pool'].shape == (3, 128)
    assert params['NFNet/~/nf_block_2/~/conv1']['w'].shape == (3, 3, 8, 32)
    assert sum('skip_gain' in names for names in params.values()) == 3


def test_a_new_network_is_its_shortcuts():
    """Skip gains start at zero, so branches have no gradient but through the gain."""
    network = make_network(10, TINY, stochastic_depth_rate=0.0)

    @jax.jit
    def gains(key):
        return {m: names for m, names in init_params(network, key).items() if 'skip_gain' in names}

    starting = gains(jax.random.key(0))
    assert [float(names['skip_gain']) for names in starting.values()] == [0, 0]
    params = {**random_params(networks.make_network('NFNet', 10, TINY)), **starting}
    images = jax.random.normal(jax.random.key(2), (2, 32, 32, 3))
    loss = lambda p: jnp.sum(network.apply(p, None, images, True)['pool'] ** 2)  # noqa: E731
    grads = jax.jit(jax.grad(loss))(jax.tree.map(np.float32, params))
    assert all(np.all(np.isfinite(g)) for g in jax.tree.leaves(grads))
    assert not np.any(grads['NFNet/~/nf_block_1/~/conv0']['w'])
    assert np.any(grads['NFNet/~/nf_block_1/~/conv_shortcut']['w'])
    assert abs(float(grads['NFNet/~/nf_block_1']['skip_gain'])) > 0


@pytest.mark.parametrize('name', ['nfnet_l0', 'nf_regnet_b1', 'nf_resnet50'])
def test_without_skip_gains_the_last_gains_of_branches_start_at_zero(name):
    (kind,) = (kind for kind in ('NFNet', 'NFRegNet', 'NFResNet') if name in NETWORKS[kind].variants)
    small = dataclasses.replace(
        NETWORKS[kind].variants[name], widths=(16, 24), depths=(1, 1), group_width=None
    )
    network = networks.make_network(kind, 10, small)

    @jax.jit
    def gains(key):
        params, _ = init_variables(network, key)
        assert not any('skip_gain' in names for names in params.values())
        return {m.rpartition('/')[2]: names['gain'] for m, names in params.items() if 'gain' in names}

    starting = gains(jax.random.key(0))
    assert {layer for layer, gain in starting.items() if not np.any(gain)} == {'conv2'}
    assert all(np.all(gain == 1) for layer, gain in starting.items() if layer != 'conv2')


def test_of_a_light_network_stacked_blocks_give_the_same():
    light = dataclasses.replace(NFNETS['eca_nfnet_l1'], widths=(16, 24), depths=(1, 3), group_width=4)
    params = jax.tree.map(np.float32, random_params(networks.make_network('NFNet', 5, light)))
    layout = stack_alike(params, light.depths)
    assert [len(run) for run in layout.runs] == [2]
    images = jax.random.normal(jax.random.key(2), (2, 32, 32, 3))
    stacked, unstacked = (
        jax.jit(make_network(5, light, layout=way).apply, static_argnums=3)(
            way.stack(params), None, images, False
        )['logits']
        for way in (layout, UNSTACKED)
    )
    np.testing.assert_allclose(stacked, unstacked, rtol=1e-4)


def test_drop_rates_grow_linearly_with_depth_from_zero():
    stages = hk.transform(lambda: NFNet(10, 'F0', stochastic_depth_rate=0.24).stages).apply({}, None)
    rates = [setting.drop_rate or 0.0 for stage in stages for _, setting in stage]
    np.testing.assert_allclose(rates, 0.24 * np.arange(12) / 12, rtol=1e-12)


def test_what_is_random_acts_in_training_alone():
    images = jax.random.normal(jax.random.key(2), (4, 32, 32, 3))

    def logits(dropout_rate, stochastic_depth_rate, is_training):
        """By two keys."""
        rates = {'dropout_rate': dropout_rate, 'stochastic_depth_rate': stochastic_depth_rate}
        network = make_network(10, TINY, **rates)
        apply = jax.jit(network.apply, static_argnums=3)
        return [apply(params, jax.random.key(k), images, is_training)['logits'] for k in (1, 2)]

    # A branch that starts closed could not be seen to be dropped.
    params = jax.tree.map(np.float32, random_params(networks.make_network('NFNet', 10, TINY)))
    for rates in ((0.5, 0.0), (0.0, 0.9)):
        trained = logits(*rates, is_training=True)
        assert np.any(trained[0] != trained[1])
    np.testing.assert_array_equal(*logits(0.5, 0.9, is_training=False))
    np.testing.assert_array_equal(*logits(0.0, 0.0, is_training=True))


def test_the_dropout_rate_is_that_of_the_variants_recipe_unless_another_is_asked_for():
    def rate(*arguments, **settings):
        network = hk.transform(lambda: NFNet(10, *arguments, **settings).dropout_rate)
        return network.apply({}, None)

    assert rate('F3') == RECIPES['F3'].dropout_rate == 0.4
    assert rate('F3', dropout_rate=0.0) == 0.0
    assert rate(SMALL) == 0.0
    assert rate(SMALL, dropout_rate=0.1) == 0.1


def test_an_unknown_variant_names_those_there_are():
    with pytest.raises(InputError, match=r"'F8'; there are F0, F1, .*F7\+"):
        parameter_shapes(make_network(10, 'F8'))
