"""The chain, its masks, its schedule and the EMA, against the released code's numbers."""

import dataclasses
import math

import golden_numbers
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nfnets.configs import default
from nfnets.models.networks import NETWORKS, make_network, variable_shapes
from nfnets.models.param_names import all_but, found_by, map_names
from nfnets.optim.ema import ema_decay, update_ema
from nfnets.optim.optimizer import OptimizerSettings, is_decayed, make_optimizer, warmup_cosine, warmup_drops

is_clipped = all_but(default.get_config().optimizer.agc_skip)


def test_only_the_classifiers_weight_escapes_clipping():
    assert [name for name in golden_numbers.f0_shapes() if not is_clipped(name)] == ['NFNet/~/linear/w']


def test_gains_biases_and_skip_gains_of_f0_escape_weight_decay():
    masks = {name: is_decayed(name) for name in golden_numbers.f0_shapes()}
    exempt = sorted({name.rsplit('/', 1)[-1] for name, decayed in masks.items() if not decayed})
    decayed = sorted({name.rsplit('/', 1)[-1] for name, decayed in masks.items() if decayed})
    assert exempt == ['b', 'bias', 'gain', 'skip_gain']
    assert decayed == ['w']
    # 57 convolutions with gain and bias, 25 linear layers with b, 12 skip gains.
    assert sum(not decayed for decayed in masks.values()) == 57 * 2 + 25 + 12


@pytest.mark.parametrize('name', NETWORKS)
def test_in_every_network_weights_alone_decay_and_the_classifiers_alone_escapes_clipping(name):
    kind = NETWORKS[name]
    small = dataclasses.replace(next(iter(kind.variants.values())), depths=(1, 1, 1, 1))
    params, _ = variable_shapes(make_network(name, 10, small))
    decayed = golden_numbers.flat(map_names(is_decayed, params))
    assert {leaf.rsplit('/', 1)[-1] for leaf, is_in in decayed.items() if is_in} == {'w'}
    assert all(is_in for leaf, is_in in decayed.items() if leaf.endswith('/w'))
    clipped = golden_numbers.flat(map_names(is_clipped, params))
    (classifier,) = (leaf for leaf, is_in in clipped.items() if not is_in)
    assert classifier.endswith('/~/linear/w')


def test_masks_are_those_of_the_released_code():
    golden = golden_numbers.load('sgd_agc_F0_96_f64.npz')
    for name, decay, clipping in zip(
        golden['names'], golden['weight_decay'], golden['clipping'], strict=True
    ):
        assert is_decayed(name) == (decay > 0), name  # NaN: none.
        assert is_clipped(name) == (clipping > 0), name


def test_schedule_is_the_papers_and_stays_at_zero_after_its_end():
    golden = golden_numbers.load('schedule.npz')
    total = int(golden['nfnet/cfg_num_steps'])
    schedule = warmup_cosine(1.6, float(golden['nfnet/cfg_warmup_steps']), total)
    for step, expected in zip(golden['nfnet/steps'], golden['nfnet/lr_exact_f64'], strict=True):
        if step <= total:
            # float32 holds 1 - step / steps to 1e-7 at best.
            assert float(schedule(step)) == pytest.approx(expected, abs=2e-7), step
        else:
            assert float(schedule(step)) == 0


def test_a_schedule_with_drops_is_flat_between_them():
    schedule = jax.jit(warmup_drops(0.12, 500.0, (15_000, 20_000)))  # As Model Garden's.
    steps = (0, 125, 500, 14_999, 15_000, 19_999, 20_000, 22_500)
    expected = (0.0, 0.03, 0.12, 0.12, 0.012, 0.012, 0.0012, 0.0012)
    np.testing.assert_allclose([schedule(step) for step in steps], expected, rtol=1e-5)
    assert warmup_drops(0.12, 0.0, ())(0) == pytest.approx(0.12)


def test_decay_of_the_ema_warms_up_as_in_the_released_code():
    golden = golden_numbers.load('ema.npz')
    for step, expected in zip(golden['steps'], golden['decay_eff_ema1_cur0'], strict=True):
        decay = ema_decay(jnp.asarray(step), float(golden['decay']))
        assert float(decay) == pytest.approx(float(expected), rel=1e-6), step


def test_the_ema_follows_the_released_codes():
    golden = golden_numbers.load('ema.npz')
    ema = {'w': jnp.asarray(golden['chain_init'])}
    for step, current in enumerate(golden['chain_current']):
        ema = update_ema(ema, {'w': jnp.asarray(current)}, jnp.asarray(step), float(golden['decay']))
        np.testing.assert_allclose(ema['w'], golden['chain_ema'][step], rtol=1e-5)


def _one_step(grads, params, *, is_clipped=is_clipped, is_frozen=lambda name: False, **settings):
    chain = OptimizerSettings(momentum=0.0, weight_decay=0.1, agc_eps=1e-3, **settings)
    optimizer = make_optimizer(1.0, chain, is_clipped=is_clipped, is_frozen=is_frozen)
    grads, params = jax.tree.map(jnp.float32, (grads, params))
    return golden_numbers.flat(jax.jit(optimizer.update)(grads, optimizer.init(params), params)[0])


@pytest.fixture
def small():
    """Gradients and parameters of a network of two layers, in float64."""
    rng = np.random.default_rng(0)
    shapes = {'Net/~/conv': {'w': (3, 3, 2, 4), 'gain': (4,)}, 'Net/~/linear': {'w': (4, 5), 'b': (5,)}}
    is_shape = lambda x: isinstance(x, tuple)  # noqa: E731
    return tuple(jax.tree.map(lambda s: rng.normal(size=s), shapes, is_leaf=is_shape) for _ in range(2))


def test_all_gradients_are_scaled_down_together_to_the_largest_norm(small):
    grads, params = map(golden_numbers.flat, small)
    norm = np.sqrt(sum(np.sum(g**2) for g in grads.values()))
    for limit, factor in ((0.5, 0.5 / norm), (100.0, 1.0)):
        updates = _one_step(*small, agc_clipping=math.inf, max_grad_norm=limit)
        for name, grad in grads.items():
            decay = 0.1 * params[name] if name.endswith('/w') else 0.0
            np.testing.assert_allclose(updates[name], -(factor * grad + decay), rtol=1e-5, atol=1e-6)


def test_lars_scales_the_decayed_update_to_the_norm_of_the_weights(small):
    grads, params = map(golden_numbers.flat, small)
    updates = _one_step(*small, agc_clipping=math.inf, lars_trust=0.02)
    for name, grad in grads.items():
        expected = -grad
        if name.endswith('/w'):
            update = grad + 0.1 * params[name]
            expected = -0.02 * np.linalg.norm(params[name]) / np.linalg.norm(update) * update
        np.testing.assert_allclose(updates[name], expected, rtol=1e-5, atol=1e-6)


def test_what_agc_skips_is_chosen_by_name(small):
    grads, params = map(golden_numbers.flat, small)
    updates = _one_step(*small, agc_clipping=1e-6, is_clipped=all_but('conv/'))
    for name, grad in grads.items():
        decay = 0.1 * params[name] if name.endswith('/w') else 0.0
        if 'conv' in name:
            np.testing.assert_allclose(updates[name], -(grad + decay), rtol=1e-5, atol=1e-6)
        else:
            np.testing.assert_allclose(updates[name], -decay, atol=1e-5)


def test_what_is_frozen_is_not_changed_and_the_rest_is_as_before(small):
    before = _one_step(*small, agc_clipping=0.01)
    updates = _one_step(*small, agc_clipping=0.01, is_frozen=found_by('conv/'))
    for name, update in updates.items():
        np.testing.assert_array_equal(update, 0 if 'conv' in name else before[name])
