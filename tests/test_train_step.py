"""The training step against optax and NumPy by hand, in float32 and in the bfloat16 policy."""

import math

import haiku as hk
import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import optax
import pytest

from nfnets import Variant, build, parallel
from nfnets.data.augment import AugmentedBatch
from nfnets.losses import LOSSES
from nfnets.models.networks import make_network, variable_shapes
from nfnets.models.param_layout import UNSTACKED, ParamLayout
from nfnets.models.param_names import found_by
from nfnets.optim.accumulate import accumulated_value_and_grad
from nfnets.optim.optimizer import OptimizerSettings, make_optimizer
from nfnets.optim.sam import sam_value_and_grad
from nfnets.tasks.classification_loss import make_loss_fn
from nfnets.train_state import REPLICATED, init_train_state, sharded_placement
from nfnets.train_step import (
    make_train_step,
    parallelize_step,
    run_keys,
    step_keys,
    sum_squares,
)

CLASSES = 5
SEEN = OptimizerSettings(momentum=0.9, weight_decay=1e-3, agc_clipping=0.01, agc_eps=1e-3)


def _network(dtypes=None):
    def forward(images, is_training):
        assert is_training
        if dtypes is not None:
            dtypes.append(images.dtype)
        return {'logits': hk.Linear(CLASSES, name='head')(images.reshape(images.shape[0], -1))}

    return hk.transform_with_state(forward)


def _augment(key, images, labels):
    del key
    ratio = jnp.full(labels.shape, 0.75)
    return AugmentedBatch(images.astype(jnp.float32) / 255, labels, (labels + 1) % CLASSES, ratio)


def _batch():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (16, 2, 2, 3)).astype(np.uint8)
    return {'images': images, 'labels': rng.integers(0, CLASSES, 16).astype(np.int32)}


def _step(
    network,
    precision='float32',
    augment=_augment,
    learning_rate=0.1,
    rho=0.0,
    accumulate_steps=1,
    freeze='',
    is_reported=lambda step: True,
    placement=REPLICATED,
):
    is_frozen, shard = found_by(freeze), placement is not REPLICATED
    optimizer = make_optimizer(
        learning_rate, SEEN, is_clipped=lambda name: True, is_frozen=is_frozen, shard=shard
    )
    loss_fn = make_loss_fn(
        network, num_classes=CLASSES, label_smoothing=0.1, precision=precision, is_frozen=is_frozen
    )

    def value_and_grad(loss_fn):
        return accumulated_value_and_grad(
            sam_value_and_grad(loss_fn, rho=rho, ascent_fraction=0.5), accumulate_steps
        )

    settings = {'ema_decay': 0.99999, 'is_reported': is_reported, 'is_sharded': shard}
    step = make_train_step(loss_fn, value_and_grad, optimizer, augment, **settings)
    return optimizer, parallelize_step(step, placement.axes)


def _run(precision='float32', steps=2, dtypes=None, placement=REPLICATED, **settings):
    network = _network(dtypes)
    optimizer, step = _step(network, precision, placement=placement, **settings)
    params, _ = network.init(jax.random.key(1), jnp.zeros((1, 2, 2, 3)), True)
    params = jax.tree.map(lambda p: p + 0.1, params)
    start = jax.tree.map(np.array, params)
    state = placement.place(init_train_state(params, optimizer))
    history = []
    for _ in range(steps):
        state, metrics = step(state, parallel.shard_batch(_batch()), jax.random.key(0))
        history.append(jax.device_get(metrics))
    return start, jax.device_get(placement.gather(state)), history


def _gradients(w, b, x, targets):
    """Of the mean softmax cross-entropy, by its formula, and the loss."""
    logits = x @ w + b
    p = np.exp(logits - logits.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    return x.T @ (p - targets) / len(x), (p - targets).mean(0), -np.sum(targets * np.log(p), axis=1).mean()


def _sam_gradients(w, b, x, targets, rho, size):
    """Every so many examples climb by the first of them; the mean of their gradients."""
    results = []
    for start in range(0, 16, size):
        own = slice(start, start + size)
        u_w, u_b, _ = _gradients(w, b, x[own][:1], targets[own][:1])
        scale = rho / np.sqrt(np.sum(u_w**2) + np.sum(u_b**2))
        results.append(_gradients(w + scale * u_w, b + scale * u_b, x[own], targets[own]))
    return [np.mean(values, axis=0) for values in zip(*results, strict=True)]


def _oracle(params, steps, rho=0.0, size=2):
    """Two steps in float64: gradients, then the paper's chain; size: examples that climb together."""
    batch = _batch()
    x = batch['images'].reshape(16, -1) / 255.0
    one_hot = np.eye(CLASSES)[batch['labels']]
    mixed = np.eye(CLASSES)[(batch['labels'] + 1) % CLASSES]
    targets = 0.9 * (0.75 * one_hot + 0.25 * mixed) + 0.1 / CLASSES
    w, b = np.float64(params['head']['w']), np.float64(params['head']['b'])
    ema_w, m_w, m_b = w, 0.0, 0.0
    losses = []
    for t in range(steps):
        g_w, g_b, loss = _sam_gradients(w, b, x, targets, rho, size) if rho else _gradients(w, b, x, targets)
        losses.append(loss)
        limit_w = 0.01 * np.maximum(np.linalg.norm(w, axis=0), 1e-3)
        g_w = g_w * np.minimum(1, limit_w / np.linalg.norm(g_w, axis=0))
        g_b = g_b * min(1, 0.01 * max(np.linalg.norm(b), 1e-3) / np.linalg.norm(g_b))
        g_w = g_w + 1e-3 * w
        m_w, m_b = 0.9 * m_w + g_w, 0.9 * m_b + g_b
        w, b = w - 0.1 * (g_w + 0.9 * m_w), b - 0.1 * (g_b + 0.9 * m_b)
        decay = (1 + t) / (10 + t)
        ema_w = decay * ema_w + (1 - decay) * w
    return w, b, ema_w, losses


@pytest.mark.parametrize(('accumulate_steps', 'sharded'), [(1, False), (2, False), (1, True)])
def test_two_steps_on_eight_devices_are_those_of_the_formula(accumulate_steps, sharded):
    placement = sharded_placement() if sharded else REPLICATED
    start, state, history = _run(accumulate_steps=accumulate_steps, placement=placement)
    w, b, ema_w, losses = _oracle(start, 2)
    assert int(state.step) == 2
    np.testing.assert_allclose(state.params['head']['w'], w, rtol=1e-5)
    np.testing.assert_allclose(state.params['head']['b'], b, rtol=1e-5)
    np.testing.assert_allclose(state.ema_params['head']['w'], ema_w, rtol=1e-5)
    np.testing.assert_allclose([m['loss'] for m in history], losses, rtol=1e-5)
    assert history[0]['agc_clipped_fraction'] == 1.0
    batch = _batch()
    logits = batch['images'].reshape(16, -1) / 255.0 @ start['head']['w'] + start['head']['b']
    assert history[0]['top_1'] == np.mean(logits.argmax(1) == batch['labels']) > 0


@pytest.mark.parametrize('loss', ['softmax', 'sigmoid'])
def test_the_loss_of_sets_is_that_of_their_targets_and_a_hit_is_any_of_their_labels(loss):
    network = _network()
    images = jnp.asarray(_batch()['images'] / np.float32(255))
    params, state = network.init(jax.random.key(1), images[:1], True)
    sets = np.array([[k % CLASSES, (k + 1) % CLASSES, -1] for k in range(16)])
    batch = AugmentedBatch(images, jnp.asarray(sets), jnp.asarray(sets), jnp.ones(16))
    settings = {'num_classes': CLASSES, 'label_smoothing': 0.0, 'precision': 'float32'}
    loss_fn = make_loss_fn(network, **settings, loss=LOSSES[loss])
    value, (metrics, _) = loss_fn(state, params, batch, jax.random.key(0))
    head = jax.tree.map(np.float64, params['head'])
    logits = np.float64(images).reshape(16, -1) @ head['w'] + head['b']
    hot = np.eye(CLASSES)[sets[:, 0]] + np.eye(CLASSES)[sets[:, 1]]
    log_p = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    expected = {
        'softmax': -np.sum(hot / 2 * log_p, axis=1),
        'sigmoid': np.sum(np.logaddexp(0, logits) - hot * logits, axis=1),
    }
    np.testing.assert_allclose(value, expected[loss].mean(), rtol=1e-5)
    top_1 = metrics['top_1']
    assert top_1 == np.mean([best in own for best, own in zip(logits.argmax(1), sets, strict=True)])
    assert 0 < top_1 < 1


@pytest.mark.parametrize(('accumulate_steps', 'size'), [(1, 2), (2, 1)])
def test_with_sam_every_device_climbs_by_its_own_part_of_the_batch(accumulate_steps, size):
    start, state, history = _run(rho=0.5, accumulate_steps=accumulate_steps)
    w, b, _, losses = _oracle(start, 2, rho=0.5, size=size)
    np.testing.assert_allclose(state.params['head']['w'], w, rtol=1e-5)
    np.testing.assert_allclose(state.params['head']['b'], b, rtol=1e-5)
    np.testing.assert_allclose([m['loss'] for m in history], losses, rtol=1e-5)
    for rho, other in ((0.0, size), (0.5, 3 - size)):
        different, *_ = _oracle(start, 2, rho, other)
        assert np.abs(w - different).max() > 1e-4


def test_what_is_frozen_stays_and_the_rest_moves_as_before():
    start, state, history = _run(freeze='/w$')
    _, b, *_ = _oracle(start, 1)
    np.testing.assert_array_equal(state.params['head']['w'], start['head']['w'])
    np.testing.assert_allclose(state.ema_params['head']['w'], start['head']['w'], rtol=1e-6)
    assert np.abs(state.params['head']['b'] - start['head']['b']).max() > 1e-4
    _, once, first = _run(freeze='/w$', steps=1)
    np.testing.assert_allclose(once.params['head']['b'], b, rtol=1e-5)
    assert first[0]['grad_sum_squares'][1] == 0.0  # Of head/w.
    assert history[0]['agc_clipped_fraction'] == 1.0  # Of what is trained.


def test_metrics_hold_a_squared_gradient_norm_for_each_named_parameter():
    start, _, history = _run(steps=1)
    assert UNSTACKED.names(start) == ['head/b', 'head/w']
    assert history[0]['grad_sum_squares'].shape == (2,)
    assert optax.tree.norm(start) == pytest.approx(history[0]['param_norm'], rel=0.05)


def test_each_of_stacked_parameters_has_its_norm_and_its_name():
    grads = {
        'N/~/block_1': {'w': np.arange(12.0).reshape(2, 3, 2), 'gain': np.float64([2, 3])},
        'N/~/head': {'w': np.ones(3)},
    }
    layout = ParamLayout((('N/~/block_1', 'N/~/block_2'),))
    names = ['block_1/gain', 'block_2/gain', 'block_1/w', 'block_2/w', 'head/w']
    assert layout.names(grads) == [f'N/~/{name}' for name in names]
    np.testing.assert_allclose(sum_squares(grads, layout), [4, 9, 55, 451, 3])


def test_bfloat16_is_for_the_passes_alone():
    dtypes = []
    start, state, history = _run('bfloat16', dtypes=dtypes)
    assert jnp.bfloat16 in dtypes
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves((state.params, state.ema_params)))
    assert history[0]['loss'].dtype == np.float32
    w, _, _, losses = _oracle(start, 2)
    np.testing.assert_allclose([m['loss'] for m in history], losses, rtol=1e-2)
    np.testing.assert_allclose(state.params['head']['w'], w, rtol=2e-3)
    assert np.abs(state.params['head']['w'] - w).max() > 1e-7  # It was not float32 all along.


def test_every_step_draws_anew():
    def noisy(key, images, labels):
        ratio = jnp.full(labels.shape, jax.random.uniform(key))
        return AugmentedBatch(images.astype(jnp.float32) / 255, labels, (labels + 1) % CLASSES, ratio)

    _, _, history = _run(steps=3, augment=noisy, learning_rate=0.0)
    assert len({float(m['loss']) for m in history}) == 3


def test_on_every_device_a_step_draws_by_keys_of_its_own_for_augmentation_and_network():
    def augment(key, images, labels):
        ratio = jnp.full(labels.shape, jax.random.uniform(key))
        return AugmentedBatch(images.astype(jnp.float32), labels, labels, ratio)

    def loss_fn(network_state, params, batch, key):
        loss = jnp.mean(batch.ratio) + 10 * jax.random.uniform(key) + 0 * jnp.sum(params['head']['w'])
        return loss, ({}, network_state)

    optimizer = make_optimizer(0.1, SEEN, is_clipped=lambda name: True)
    value_and_grad = lambda loss_fn: jax.value_and_grad(loss_fn, has_aux=True)  # noqa: E731
    step = parallelize_step(make_train_step(loss_fn, value_and_grad, optimizer, augment, ema_decay=0.9))
    _, run_key = run_keys(5)
    state = parallel.replicate(init_train_state({'head': {'w': jnp.ones(2)}}, optimizer))
    batch = parallel.shard_batch(_batch())
    for number in range(2):
        state, metrics = step(state, batch, run_key)
        # Spelled out: a run that goes on must draw as it did.
        keys = [
            jax.random.split(
                jax.random.fold_in(jax.random.fold_in(jax.random.split(jax.random.key(5))[1], number), device)
            )
            for device in range(8)
        ]
        draws = np.float64([[jax.random.uniform(key) for key in pair] for pair in keys])
        assert len(np.unique(draws)) == 16
        assert float(metrics['loss']) == pytest.approx((draws @ [1, 10]).mean(), rel=1e-5)
        for device, pair in enumerate(keys):
            assert jnp.all(jnp.stack(step_keys(run_key, number, device)) == pair)


def test_a_run_draws_its_initial_parameters_by_another_key_than_its_steps():
    keys = [key for seed in (0, 1) for key in run_keys(seed)]
    assert len({tuple(jax.random.key_data(key).tolist()) for key in keys}) == 4
    assert jnp.all(jnp.stack(run_keys(0)) == jax.random.split(jax.random.key(0)))


def test_in_parts_a_step_takes_less_memory():
    variant = Variant((16,), (1,), group_width=None, second_conv=False)
    network = make_network('NFNet', CLASSES, variant)
    params, _ = variable_shapes(network)
    batch = {
        'images': jax.ShapeDtypeStruct((8, 16, 32, 32, 3), jnp.uint8),
        'labels': jax.ShapeDtypeStruct((8, 16), jnp.int32),
    }

    def temporary(accumulate_steps):
        optimizer, step = _step(network, accumulate_steps=accumulate_steps)
        state = jax.eval_shape(lambda p: init_train_state(p, optimizer), params)
        compiled = step.lower(state, batch, jax.random.key(0)).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    assert temporary(4) < 0.5 * temporary(1)


@pytest.mark.parametrize('dtype', ['float32', 'bfloat16'])
def test_gradients_are_summed_over_devices_in_the_dtype_that_they_come_in(dtype):
    config = ml_collections.ConfigDict({'sam': {'rho': 0.0, 'ascent_fraction': 0.2}})
    config.train = {'accumulate_steps': 1, 'all_reduce': dtype}
    targets = np.random.default_rng(0).normal(size=(8, 1, 300)).astype(np.float32)

    def loss_fn(network_state, params, batch, key):
        return jnp.sum(params['head']['w'][None] * batch.images), ({}, network_state)

    def augment(key, images, labels):
        return AugmentedBatch(images, labels, labels, jnp.ones(labels.shape))

    plain = OptimizerSettings(momentum=0.0, weight_decay=0.0, agc_clipping=math.inf, agc_eps=1e-3)
    optimizer = make_optimizer(1.0, plain, is_clipped=lambda name: True)
    step = parallelize_step(
        make_train_step(loss_fn, build.value_and_grad(config), optimizer, augment, ema_decay=0.9)
    )
    state = parallel.replicate(init_train_state({'head': {'w': jnp.zeros(300)}}, optimizer))
    batch = {'images': jnp.asarray(targets), 'labels': jnp.zeros((8, 1), jnp.int32)}
    state, _ = step(state, batch, jax.random.key(0))
    (update,) = jax.tree.leaves(state.params)
    assert update.dtype == jnp.float32
    parts = targets[:, 0].astype(jnp.bfloat16 if dtype == 'bfloat16' else np.float32) / 8
    mean = np.float64(parts).sum(axis=0)
    error = np.abs(-np.asarray(update) - mean).max() / np.abs(mean).max()
    # Of the sum alone: that of each part is in the parts already.
    assert error < (2.0**-6 if dtype == 'bfloat16' else 2.0**-20)
    exact = np.float64(targets[:, 0]).mean(axis=0)
    assert (np.abs(mean - exact).max() > 1e-5) == (dtype == 'bfloat16')


def test_on_a_tpu_norms_are_computed_where_they_are_reported_alone(form_for):
    _, _, expected = _run(steps=4)
    form_for('tpu')
    _, _, history = _run(steps=4, is_reported=lambda step: step % 2 == 0)
    for step, (metrics, always) in enumerate(zip(history, expected, strict=True), start=1):
        for name in ('update_norm', 'param_norm'):
            assert metrics[name] == (pytest.approx(always[name], rel=1e-6) if step % 2 == 0 else 0)
        assert always['param_norm'] > 0
        assert metrics['loss'] == pytest.approx(always['loss'], rel=1e-6)
        np.testing.assert_allclose(metrics['grad_sum_squares'], always['grad_sum_squares'], rtol=1e-5)


def test_elsewhere_programs_do_not_depend_on_where_norms_are_reported():
    """Runs that differ in how often they log share what is compiled."""
    network = _network()
    params, _ = network.init(jax.random.key(1), jnp.zeros((1, 2, 2, 3)), True)
    programs = set()
    for every in (2, 3):
        optimizer, step = _step(network, is_reported=lambda step, every=every: step % every == 0)
        arguments = init_train_state(params, optimizer), parallel.shard_batch(_batch()), jax.random.key(0)
        programs.add(step.lower(*arguments).as_text())
    assert len(programs) == 1
