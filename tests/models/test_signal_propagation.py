"""Signal propagation: statistics against NumPy, predictions against real networks, and the script."""

import importlib.util
import json
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import numpy_nf_resnet
import pytest
from numpy_layers import random_params
from PIL import Image

from nfnets.errors import InputError
from nfnets.models.networks import NETWORKS, init_variables, make_network, variable_shapes
from nfnets.models.signal_propagation import (
    make_measure,
    predict_batch_normalized,
    predict_normalizer_free,
    predicted_signal,
    with_skip_gains,
)
from nfnets.models.variants import Variant

SMALL = Variant((16, 32), (2, 1), group_width=None)
WIDE = Variant((256, 512), (3, 3), group_width=None)


def _network(name, variant, **settings):
    return make_network(name, 10, variant, dropout_rate=0.0, stochastic_depth_rate=0.0, **settings)


def _at_start(name, **settings):
    """Of a new network whose branches are open, on noise."""
    network = _network(name, WIDE, **settings)
    key = jax.random.key(0, impl='rbg')
    params, state = jax.jit(lambda key: init_variables(network, key))(key)
    images = jax.random.normal(jax.random.key(1), (8, 96, 96, 3))
    return make_measure(network)(with_skip_gains(params, 1.0), state, images)


def test_statistics_are_those_of_numpy():
    network = _network('NFResNet', SMALL)
    params = random_params(network)
    images = np.random.default_rng(1).normal(size=(3, 25, 25, 3))
    with jax.enable_x64(True):
        signal = make_measure(network)(params, {}, jnp.asarray(images))
    _, _, outs, branches = numpy_nf_resnet.forward(params, images, SMALL.depths)
    axes = (0, 1, 2)
    assert len(outs) == 4
    np.testing.assert_allclose(signal.squared_mean, [np.mean(x.mean(axes) ** 2) for x in outs], rtol=1e-5)
    np.testing.assert_allclose(signal.variance, [np.mean(x.var(axes)) for x in outs], rtol=1e-5)
    np.testing.assert_allclose(signal.branch_variance, [np.mean(x.var(axes)) for x in branches], rtol=1e-5)


@pytest.mark.parametrize('name', NETWORKS)
def test_every_block_of_every_network_is_seen(name):
    variant = Variant((16, 16), (1, 2), group_width=4, second_conv=False)
    network = _network(name, variant)
    params = jax.tree.map(np.float32, random_params(network))
    state = jax.tree.map(lambda s: np.zeros(s.shape, s.dtype), variable_shapes(network)[1])
    signal = make_measure(network)(params, state, jax.random.normal(jax.random.key(1), (2, 32, 32, 3)))
    assert [len(values) for values in signal] == [4, 4, 3]
    assert np.all(np.isfinite(np.concatenate(signal)))
    predicted = predicted_signal(name, variant)
    assert (predicted is None) == (name in ('SkipInitResNet', 'FixupResNet', 'BNNet'))


def test_the_prediction_without_normalization_is_the_papers():
    # Grows by alpha^2, and from 1 again after a transition.
    predicted = predict_normalizer_free(Variant((8, 8), (2, 3)), alpha=0.5)
    np.testing.assert_allclose(predicted.variance, [1, 1.25, 1.5, 1.25, 1.5, 1.75])
    assert not predicted.squared_mean.any()
    np.testing.assert_array_equal(predicted.branch_variance, np.ones(5))


def test_an_nf_resnet_follows_its_prediction():
    signal, predicted = _at_start('NFResNet'), predicted_signal('NFResNet', WIDE)
    np.testing.assert_allclose(signal.variance[1:], predicted.variance[1:], rtol=0.1)
    np.testing.assert_allclose(signal.branch_variance, predicted.branch_variance, rtol=0.1)
    assert np.all(signal.squared_mean[1:] < 0.05)


def test_without_weight_standardization_the_mean_shift_grows_and_the_prediction_fails():
    signal = _at_start('NFResNet', alpha=1.0, weight_standardization=False)
    predicted = predicted_signal('NFResNet', WIDE, alpha=1.0)
    assert np.all(np.diff(signal.squared_mean[1:4]) > 1)
    assert np.all(np.diff(signal.squared_mean[4:7]) > 1)
    assert np.abs(signal.branch_variance - predicted.branch_variance).max() > 0.3


def test_batch_normalization_grows_within_a_stage_and_starts_again_at_transitions():
    signal, predicted = _at_start('ResNet'), predicted_signal('ResNet', WIDE)
    np.testing.assert_allclose(signal.variance[1:], predicted.variance[1:], rtol=0.1)
    np.testing.assert_allclose(signal.squared_mean[1:], predicted.squared_mean[1:], rtol=0.2)
    np.testing.assert_allclose(signal.branch_variance, predicted.branch_variance, rtol=0.1)
    assert signal.variance[4] < 0.6 * signal.variance[3]


def test_the_prediction_of_batch_normalization_is_that_of_half_a_normal_distribution():
    predicted = predict_batch_normalized(Variant((8, 8), (2, 1)))
    count = np.array([np.nan, 2, 3, 2])
    np.testing.assert_allclose(predicted.squared_mean, count / np.pi, rtol=1e-6)
    np.testing.assert_allclose(predicted.variance, count * (1 - 1 / np.pi), rtol=1e-6)


@pytest.fixture
def script(monkeypatch):
    """Calls `main` of scripts/experiments/signal_propagation.py with arguments."""
    monkeypatch.setenv('NFNETS_HOST', 'as-is')
    path = Path(__file__).resolve().parents[2] / 'scripts' / 'experiments' / 'signal_propagation.py'
    spec = importlib.util.spec_from_file_location('signal_propagation_script', path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return lambda *arguments: module.main([str(argument) for argument in arguments])


def test_the_script_draws_and_prints_what_it_drew(script, capsys, tmp_path, monkeypatch):
    smallest = next(iter(NETWORKS['NFResNet'].variants))
    monkeypatch.setitem(NETWORKS['NFResNet'].variants, smallest, Variant((16, 32), (1, 1), group_width=None))
    folder = tmp_path / 'images'
    folder.mkdir()
    for number in range(2):
        pixels = np.random.default_rng(number).integers(0, 256, (40, 50, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f'{number}.png')
    plot = tmp_path / 'drawn.png'
    script('--model', 'NFResNet', '--size', 32, '--images', 2, '--data', folder, '--plot', plot)
    printed = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line['images'] for line in printed] == ['photographs', 'noise', 'predicted']
    assert [len(line['variance']) for line in printed] == [1 + 2] * 3
    with Image.open(plot) as image:
        assert len(np.unique(np.asarray(image.convert('RGB')).reshape(-1, 3), axis=0)) > 10


@pytest.mark.parametrize(
    ('flag', 'value', 'message'),
    [
        ('--data', '{folder}', '--data={folder} holds no images'),
        ('--data', '{folder}/none', '--data={folder}/none is no folder'),
        ('--size', '428', '--size=428: the photographs allow 427 px at most'),
        ('--size', '0', '--size=0: it must be 1 or more'),
        ('--images', '0', '--images=0: it must be 1 or more'),
        ('--plot', '{folder}/drawn.pngg', '--plot={folder}/drawn.pngg: its name must end in one of .'),
        ('--variant', 'ResNet50', "unknown variant 'ResNet50'; there are F0, F1"),
    ],
)
def test_invalid_input_fails_before_anything_is_computed(flag, value, message, script, tmp_path):
    with pytest.raises(InputError, match=re.escape(message.format(folder=tmp_path))):
        script('--model', 'NFNet', flag, value.format(folder=tmp_path))
