"""F0 itself, its gradients and two steps of the optimizer on them: the numbers of the released code."""

import golden_numbers
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from nfnets.configs import default
from nfnets.models.networks import make_network
from nfnets.models.param_names import all_but
from nfnets.optim.optimizer import OptimizerSettings, clipped_fraction, make_optimizer


@pytest.fixture(scope='module')
def f0_gradients():
    return golden_numbers.f0_gradients()


@pytest.mark.parametrize('size', [96, 97])
def test_logits_and_pool_are_the_golden_ones(size):
    golden = golden_numbers.load('forward_F0.npz')
    apply = jax.jit(make_network('NFNet', 1000, 'F0').apply, static_argnums=4)
    images = golden_numbers.fill.inputs(size, size)
    out, _ = apply(golden_numbers.f0_params(), {}, None, images, False)
    for name in ('logits', 'pool'):
        assert golden_numbers.relative_error(out[name], golden[f'F0_{size}_{name}']) < 1e-5


def test_loss_and_gradients_are_the_golden_ones_to_seven_digits(f0_gradients):
    loss, logits, grads = f0_gradients
    golden = golden_numbers.load('grads_F0_96_f64.npz')
    grads = golden_numbers.flat(grads)
    # The loss is float32 whatever the network is.
    assert loss == pytest.approx(float(golden['loss']), rel=1e-7)
    assert golden_numbers.relative_error(logits, golden['logits_train']) < 1e-9
    norms = [np.linalg.norm(grads[name].ravel()) for name in golden['names']]
    np.testing.assert_allclose(norms, golden['grad_l2'], rtol=5e-7)
    for name, expected, part in golden_numbers.stored_entries(golden, 'grad'):
        assert golden_numbers.relative_error(grads[name][part], expected) < 5e-7, name


@pytest.fixture(scope='module')
def f0_steps(f0_gradients):
    """Updates and optimizer state after each of two steps on F0's gradients, as in sgd_agc_F0_96_f64.npz."""
    # Rounded once: float32 gradients of the network would add their own errors, 6e-6, to the optimizer's.
    grads = jax.tree.map(np.float32, f0_gradients[2])
    settings = OptimizerSettings(momentum=0.9, weight_decay=2e-5, agc_clipping=0.01, agc_eps=1e-3)
    is_clipped = all_but(default.get_config().optimizer.agc_skip)
    optimizer = make_optimizer(0.1, settings, is_clipped=is_clipped)
    params = jax.tree.map(jnp.asarray, golden_numbers.f0_params())
    opt_state = jax.jit(optimizer.init)(params)

    @jax.jit
    def step(grads, opt_state, params):
        updates, opt_state = optimizer.update(grads, opt_state, params)
        return updates, opt_state, optax.apply_updates(params, updates)

    steps = []
    for _ in range(2):
        updates, opt_state, params = step(grads, opt_state, params)
        steps.append((updates, opt_state))
    return jax.device_get(steps)


@pytest.mark.parametrize('t', [1, 2])
def test_two_steps_on_f0_are_those_of_the_released_code(f0_steps, t):
    golden = golden_numbers.load('sgd_agc_F0_96_f64.npz')
    updates, opt_state = f0_steps[t - 1]
    trace = optax.tree_utils.tree_get(opt_state, 'trace')
    for kind, tree in (('update', updates), ('momentum', trace)):
        tree = golden_numbers.flat(tree)
        norms = [np.linalg.norm(np.float64(tree[name]).ravel()) for name in golden['names']]
        np.testing.assert_allclose(norms, golden[f'{kind}{t}_l2'], rtol=1e-6)
        for name, expected, part in golden_numbers.stored_entries(golden, f'{kind}{t}'):
            assert golden_numbers.relative_error(tree[name][part], expected) < 1e-6, (kind, name)


def test_the_fraction_clipped_on_f0_is_that_of_the_released_code(f0_steps):
    golden = golden_numbers.load('sgd_agc_F0_96_f64.npz')
    flat = golden_numbers.flat(golden_numbers.f0_params())
    units = [1 if flat[n].ndim < 2 else flat[n].shape[-1] for n in golden['names']]
    use = np.isfinite(golden['clipping'])
    expected = np.sum((golden['clip_fraction'] * units)[use]) / np.sum(np.array(units)[use])
    assert float(clipped_fraction(f0_steps[0][1])) == pytest.approx(expected, abs=1e-6)
