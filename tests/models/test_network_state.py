"""Statistics of batch normalization, on eight devices: averaged, checkpointed, and evaluated with."""

import shutil

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import training_runs

from nfnets import Variant, load_checkpoint, parallel
from nfnets.data.augment import AugmentedBatch, normalize
from nfnets.data.decode import decode_eval
from nfnets.data.digits import DigitsSource
from nfnets.data.preprocessing import Preprocessing
from nfnets.inference.score import score
from nfnets.models.networks import make_network
from nfnets.models.resnet import batch_norm, batch_normalize
from nfnets.optim.accumulate import accumulated_value_and_grad
from nfnets.optim.optimizer import OptimizerSettings, make_optimizer
from nfnets.optim.sam import sam_value_and_grad
from nfnets.tasks.classification_loss import make_loss_fn
from nfnets.train_state import init_train_state
from nfnets.train_step import make_train_step, parallelize_step

CLASSES = 5
RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (80, 2, 2, 3)).astype(np.uint8)
LABELS = RNG.integers(0, CLASSES, 80).astype(np.int32)


def _network():
    def forward(images, is_training):
        hidden = hk.Linear(4, name='hidden')(images.reshape(images.shape[0], -1))
        hidden = batch_normalize(batch_norm('bn'), hidden, is_training)
        return {'logits': hk.Linear(CLASSES, name='head')(hidden)}

    return hk.transform_with_state(forward)


def _augment(key, images, labels):
    del key
    return AugmentedBatch(images.astype(jnp.float32) / 255, labels, labels, jnp.ones(labels.shape))


def _step(rho, accumulate_steps):
    """(parameters before, state after one step on 8 devices)."""
    network = _network()
    settings = OptimizerSettings(momentum=0.9, weight_decay=0.0, agc_clipping=0.1, agc_eps=1e-3)
    optimizer = make_optimizer(0.1, settings, is_clipped=lambda name: True)
    loss_fn = make_loss_fn(network, num_classes=CLASSES, label_smoothing=0.1, precision='float32')

    def value_and_grad(loss_fn):
        return accumulated_value_and_grad(
            sam_value_and_grad(loss_fn, rho=rho, ascent_fraction=0.4), accumulate_steps
        )

    step = parallelize_step(make_train_step(loss_fn, value_and_grad, optimizer, _augment, ema_decay=0.99))
    params, network_state = network.init(jax.random.key(1), jnp.zeros((1, 2, 2, 3)), True)
    start = jax.tree.map(np.float64, params)
    state = parallel.replicate(init_train_state(params, optimizer, network_state))
    batch = parallel.shard_batch({'images': IMAGES, 'labels': LABELS})
    return start, jax.device_get(step(state, batch, jax.random.key(0))[0])


def _statistics(params, parts):
    """Means over parts of the batch of each part's mean and variance, in float64."""
    hidden = IMAGES.reshape(80, -1) / 255 @ params['hidden']['w'] + params['hidden']['b']
    return np.mean([[hidden[part].mean(0), hidden[part].var(0)] for part in parts], axis=0)


# On every device 10 examples: all, halves of every other one, and of each the first and middle ones that SAM
# climbs by.
PARTS = {
    (0.0, 1): [np.arange(10)],
    (0.0, 2): [np.arange(0, 10, 2), np.arange(1, 10, 2)],
    (0.5, 1): [[0, 2, 5, 7]],
    (0.5, 2): [[0, 4], [1, 5]],
}


@pytest.mark.parametrize(('rho', 'accumulate_steps'), PARTS)
def test_statistics_are_means_over_devices_and_parts_at_the_parameters_as_they_were(rho, accumulate_steps):
    start, state = _step(rho, accumulate_steps)
    parts = PARTS[rho, accumulate_steps]
    mean, variance = _statistics(start, [np.array(p) + 10 * d for d in range(8) for p in parts])
    for name, expected in (('mean_ema', mean), ('var_ema', variance)):
        # Debiased: after the first step the average is the statistic itself.
        held = state.network_state[f'bn/~/{name}']
        np.testing.assert_allclose(held['average'].ravel(), expected, rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(held['hidden'].ravel(), 0.1 * expected, rtol=1e-4, atol=1e-6)
        assert (held['counter'], held['counter'].dtype) == (1, np.int32)
        ema = state.ema_network_state[f'bn/~/{name}']
        np.testing.assert_allclose(ema['average'], 0.9 * held['average'], rtol=1e-6)
        assert (ema['counter'], ema['counter'].dtype) == (1, np.int32)
    others = [
        _statistics(start, [np.array(p) + 10 * d for d in range(8) for p in other])
        for other in PARTS.values()
    ]
    assert sum(np.allclose(other, (mean, variance), rtol=1e-3) for other in others) == 1


TINY = {
    **training_runs.TINY,
    'model.name': 'ResNet',
    'model.widths': (16,),
    'optimizer.learning_rate': 0.5,
}


@pytest.fixture(scope='module')
def run(tmp_path_factory):
    """Working directory and results of a run on 8 devices."""
    workdir = tmp_path_factory.mktemp('resnet') / 'run'
    return workdir, training_runs.train(workdir, TINY)


def test_evaluation_is_that_of_the_whole_split_at_once_on_one_device(run):
    workdir, results = run
    weights = load_checkpoint(workdir)
    source = DigitsSource('eval')
    examples = [source.read(i) for i in range(len(source))]
    images = np.stack([decode_eval(e, Preprocessing(16, 0)).numpy() for e, _ in examples])
    labels = np.array([label for _, label in examples])
    variant = Variant((16,), (1,), group_width=None)
    network = make_network('ResNet', 10, variant)
    apply = jax.jit(network.apply, static_argnums=4)
    losses = {}
    for name, params, state in (
        ('eval', weights.params, weights.network_state),
        ('eval_ema', weights.ema_params, weights.ema_network_state),
    ):
        logits = np.float64(apply(params, state, None, normalize(images), False)[0]['logits'])
        own = logits[np.arange(len(labels)), labels]
        losses[name] = np.mean(np.log(np.sum(np.exp(logits), axis=1)) - own)
        assert results[name]['loss'] == pytest.approx(losses[name], rel=1e-4)
        assert results[name]['top_1'] == pytest.approx(np.mean(logits.argmax(1) == labels), abs=1e-6)
        scored = score(training_runs.config(TINY), weights, ema=name == 'eval_ema')
        assert scored['loss'] == pytest.approx(losses[name], rel=1e-4)
    assert losses['eval'] != pytest.approx(losses['eval_ema'], rel=1e-3)


def test_a_resumed_run_ends_bit_equal_statistics_included(run, tmp_path):
    workdir, _ = run
    again = tmp_path / 'run'
    shutil.copytree(workdir, again)
    shutil.rmtree(again / 'checkpoints' / '12')
    training_runs.train(again, TINY)
    expected, _ = training_runs.state(workdir)
    state, _ = training_runs.state(again)
    assert sum('network_state' in name and 'average' in name for name in expected) == 2 * 2 * 4
    assert state.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_array_equal(state[name], value, err_msg=name)
