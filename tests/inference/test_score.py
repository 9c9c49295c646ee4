"""Evaluation of a checkpoint, against accuracies counted example by example."""

import dataclasses
import json
from pathlib import Path

import forge
import jax
import numpy as np
import pytest
import small_runs
import tiny_network
from pure_nfnet import make_network, parameter_shapes

from nfnets import VARIANTS, Weights, load_checkpoint
from nfnets import config as config_lib
from nfnets.configs import default, digits, imagenet_ladder
from nfnets.data.augment import normalize
from nfnets.data.decode import decode_eval
from nfnets.data.digits import DigitsSource
from nfnets.data.preprocessing import Preprocessing
from nfnets.data.tensorflow import tf
from nfnets.errors import InputError
from nfnets.inference import tables
from nfnets.inference.score import check_class_names, config_of, score, with_network_of
from nfnets.models import networks
from nfnets.models.networks import variable_shapes
from nfnets.models.variants import NFNETS
from nfnets.weights.about import About
from nfnets.weights.save import save_checkpoint

NAMES = tuple('0123456789')
ABOUT = About(NAMES)


def _config(**changed):
    return small_runs.config({key.replace('__', '.'): value for key, value in changed.items()})


def _weights(about=ABOUT, **settings):
    params = tiny_network.params(num_classes=10)
    return Weights(Path('x.npz'), 'npz', params, about, sha256='0', **settings)


def _counted(params, preprocessing):
    """Top-1, top-5 and loss over the held-out digits, in float64 from the logits of all at once."""
    source = DigitsSource('eval')
    examples = [source.read(i) for i in range(len(source))]
    images = np.stack([decode_eval(tf.constant(e), preprocessing).numpy() for e, _ in examples])
    labels = np.array([label for _, label in examples])
    network = make_network(10, tiny_network.VARIANT)
    logits = jax.jit(network.apply, static_argnums=3)(params, None, normalize(images), False)['logits']
    logits = np.asarray(logits, np.float64)
    own = logits[np.arange(len(labels)), labels]
    rank = np.sum(logits > own[:, None], axis=1)
    peak = logits.max(axis=1)
    loss = peak + np.log(np.sum(np.exp(logits - peak[:, None]), axis=1)) - own
    return np.mean(rank < 1), np.mean(rank < 5), np.mean(loss)


@pytest.mark.parametrize('style', ['paper', 'timm'])
def test_every_example_is_counted_once_by_its_own_preprocessing(style):
    result = score(_config(data__eval_style=style, data__eval_margin=4, eval__batch_size=104), _weights())
    top_1, top_5, loss = _counted(_weights().params, Preprocessing(32, 4, style))
    assert result['num_examples'] == 360
    np.testing.assert_allclose((result['top_1'], result['top_5']), (top_1, top_5), atol=1e-9)
    np.testing.assert_allclose(result['loss'], loss, rtol=1e-5)
    assert result['preprocessing'] == {'size': 32, 'margin': 4, 'style': style}
    assert result['images_per_second'] > 0
    assert result['sha256'] == '0'
    json.dumps(result)


def test_the_ema_is_evaluated_on_request():
    average = tiny_network.params(num_classes=10, seed=5)
    weights = _weights(About(NAMES, step=7), ema_params=average)
    result = score(_config(), weights, ema=True)
    np.testing.assert_allclose(result['loss'], _counted(average, Preprocessing(32, 0))[2], rtol=1e-5)
    assert (result['parameters'], result['step']) == ('ema', 7)


def test_what_does_not_fit_is_refused():
    with pytest.raises(
        InputError, match=r"x\.npz does not fit the network.*--config\.model\.widths='\(32,64\)'"
    ):
        score(digits.get_config(), _weights())
    with pytest.raises(InputError, match=r'with model\.activation=relu, not gelu'):
        score(_config(), _weights(About(activation='relu')))
    with pytest.raises(InputError, match=r"label 9 of the data is the class '9', and .* has 'nine' there"):
        score(_config(), _weights(About((*NAMES[:9], 'nine'))))
    check_class_names(_weights(About((*NAMES, 'of none of the data'))), DigitsSource('eval'))
    with pytest.raises(InputError, match=r"label 9 of .* is the class '9', and x\.npz does not have it"):
        score(_config(), _weights(About(NAMES[:9])))
    with pytest.raises(InputError, match='give no --ema'):
        score(_config(), _weights(), ema=True)


def test_a_config_takes_the_network_of_a_checkpoint():
    config = with_network_of(digits.get_config(), _weights(About(activation='silu')))
    assert (config.model.widths, config.model.depths, config.model.group_width) == ((32, 64), (1, 1), 16)
    assert (config.model.num_classes, config.model.activation) == (10, 'silu')
    assert digits.get_config().model.widths == (64, 128)
    rung = imagenet_ladder.get_config('F1-baseline')
    params = jax.tree.map(
        lambda shape: np.broadcast_to(np.float32(0), shape.shape),
        parameter_shapes(make_network(7, 'F0')),
    )
    config = with_network_of(rung, Weights('x', 'npz', params, About()))
    assert (config.model.variant, config.model.num_classes) == ('F0', 7)
    assert config_lib.make_variant(config) == VARIANTS['F0']
    with pytest.raises(InputError, match='holds no whole NFNet'):
        with_network_of(_config(), Weights('x', 'npz', {}, About()))


def test_a_config_takes_a_network_of_any_kind_and_blocks():
    shapes, _ = variable_shapes(networks.make_network('NFResNet', 7, 'nf_resnet50'))
    config = with_network_of(digits.get_config('ResNet'), Weights('x', 'timm', shapes, About()))
    assert (config.model.name, config.model.variant, config.model.widths) == ('NFResNet', 'nf_resnet50', None)
    light = dataclasses.replace(NFNETS['eca_nfnet_l1'], widths=(32, 64), depths=(1, 2), group_width=8)
    weights = Weights('x', 'npz', parameter_shapes(make_network(10, light)), About())
    config = with_network_of(digits.get_config(), weights)
    assert config_lib.make_variant(config) == light
    config.model.variant = 'eca_nfnet_l2'  # Whose blocks are the same.
    assert with_network_of(config, weights).model.variant == 'eca_nfnet_l2'
    with_network_of(default.get_config(), weights)


def test_the_table_has_timms_figures_of_its_own_networks_in_timms_columns():
    result = {
        'checkpoint': 'a/banana.npz',
        'set': 'imagenet',
        'num_examples': 10,
        'top_1': 0.5,
        'top_5': 0.75,
    }
    preprocessing = {'style': 'timm_center', 'size': 288}
    rows = tables.markdown(
        [
            {**result, 'variant': 'nfnet_l0', 'preprocessing': preprocessing},
            {**result, 'variant': 'nfnet_l0', 'preprocessing': {**preprocessing, 'size': 224}},
        ]
    ).splitlines()
    assert rows[2].endswith(
        '| nfnet_l0 | imagenet | timm_center, 288 | 10 | 50.00 | 75.00 | - | - | 82.766 (-32.77) | - |'
    )
    assert rows[3].endswith('| 50.00 | 75.00 | - | - | - | - |')


def test_a_checkpoint_is_evaluated_as_it_was_trained_unless_set_otherwise(tmp_path):
    """A run at 24 px, where configs/digits.py says 32."""
    at_24 = {'data.train_size': 24, 'data.eval_size': 24, 'data.eval_margin': 2}
    weights = load_checkpoint(small_runs.write(tmp_path / 'run', [], at_24, has_checkpoint=True))
    published = tmp_path / 'run.npz'
    save_checkpoint(published, 'npz', *weights.choose(ema=False))
    given = small_runs.config()
    results = [
        score(config_of(weights, default.get_config(), {}, is_given=False, keeps_network=False), weights),
        score(config_of(weights, given, {}, is_given=True, keeps_network=True), weights),
        score(
            config_of(load_checkpoint(published), given, {}, is_given=True, keeps_network=False),
            load_checkpoint(published),
        ),
    ]
    for result in results:
        assert result['preprocessing'] == {'size': 24, 'margin': 2, 'style': 'paper'}
        assert result['loss'] == results[0]['loss']
    message = {'data.eval_size': 32, 'data.eval_style': 'timm'}
    given.update_from_flattened_dict(message)
    otherwise = score(config_of(weights, given, message, is_given=True, keeps_network=True), weights)
    assert otherwise['preprocessing'] == {'size': 32, 'margin': 2, 'style': 'timm'}
    assert otherwise['loss'] != results[0]['loss']


def test_a_warning_about_the_data_is_printed_once(monkeypatch, capsys):
    monkeypatch.setattr(DigitsSource, 'warnings', ('3 files skipped',))
    score(_config(), _weights())
    assert capsys.readouterr().err.count('warning: 3 files skipped\n') == 1


@pytest.mark.parametrize('network', ['ResNet', 'NFResNet'])
def test_a_checkpoint_of_another_kind_of_network_is_named_as_such(network):
    config = digits.get_config(network)
    with pytest.raises(InputError, match=rf'x\.npz is of a network with model\.name=NFNet, not {network}'):
        score(config, _weights())


def test_a_run_needs_no_config_to_be_evaluated(tmp_path):
    small_runs.write(tmp_path / 'run', [], {'data.eval_size': 24}, has_checkpoint=True)
    status, printed, errors = _run('evaluate', f'--checkpoint={tmp_path / "run"}', '--ema')
    assert status == 0, errors
    result = json.loads(printed)
    assert (result['num_examples'], result['parameters']) == (360, 'ema')  # The digits, which the run names.
    assert result['preprocessing']['size'] == 24


def _run(name, *arguments):
    """Status, standard output and standard error of a command."""
    run = forge.start(name, arguments, is_apart=True)
    printed, errors = run.communicate(timeout=300)
    return run.returncode, printed, errors


def test_the_commands_evaluate_convert_and_classify(tmp_path):
    published = tmp_path / 'digits.npz'
    about = About(NAMES, Preprocessing(32, 0), 'gelu', 'ema', 3)
    save_checkpoint(published, 'npz', tiny_network.params(num_classes=10), about)
    converted = tmp_path / 'digits.safetensors'
    assert _run('convert', published, converted)[0] == 0
    status, printed, errors = _run(
        'evaluate', '--config=digits', f'--checkpoint={published}', f'--checkpoint={converted}'
    )
    assert status == 0, errors
    first, second, head, _, *rows = printed.splitlines()
    first, second = json.loads(first), json.loads(second)
    assert (first['kind'], second['kind'], first['num_examples']) == ('npz', 'timm', 360)
    assert first['loss'] == second['loss']
    assert 'paper top-1' in head
    assert [row.split(' | ')[0] for row in rows] == ['| digits.npz', '| digits.safetensors']
    assert '100%' in errors  # Of the progress bar.

    images = []
    for index, (encoded, _) in enumerate(DigitsSource('eval').read(i) for i in range(3)):
        images.append(tmp_path / f'{index}.png')
        images[-1].write_bytes(encoded)
    status, printed, errors = _run('predict', *images, '--checkpoint', published, '--json')
    assert status == 0, errors
    message = [json.loads(line) for line in printed.splitlines()]
    assert [t['image'] for t in message] == list(map(str, images))
    assert all(len(t['predictions']) == 5 for t in message)
    status, printed, errors = _run('predict', images[0], tmp_path / 'none.png', '--checkpoint', published)
    assert status == 2
    assert f'{100 * message[0]["predictions"][0]["probability"]:.1f}%' in printed
    assert errors == f'error: {tmp_path}/none.png cannot be read as an image: No such file or directory\n'
