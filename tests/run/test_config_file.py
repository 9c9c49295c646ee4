"""`config.json`: what it holds, what may change when a run is resumed, and runs of earlier versions."""

import json
import math
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest
import training_runs

from nfnets import config as config_lib
from nfnets import load_checkpoint
from nfnets.configs import default
from nfnets.errors import InputError
from nfnets.run.config_file import check_same_run, from_json, to_json

# A run as commit c30eef9 left it after 4 of 4 steps, which wrote no version.
VERSION_0 = Path(__file__).parents[1] / 'runs' / 'version_0'
SETTINGS_0 = {
    **training_runs.TINY,
    **training_runs.NFNET,
    'model.widths': (8, 16),
    'model.depths': (1, 1),
    'model.group_width': 4,
    'train.steps': 4,
    'checkpoint.keep': 1,
    'eval.every_steps': 4,
    'checkpoint.every_steps': 2,
    'optimizer.warmup_steps': 1.0,
}


def _complete(**settings):
    config = default.get_config()
    config.update_from_flattened_dict({k.replace('__', '.'): v for k, v in settings.items()})
    return config_lib.complete(config, num_examples=1_281_167, num_classes=1000, num_devices=8)


def _refuse_constant(name):
    raise AssertionError(f'{name} is no JSON')


def test_a_config_comes_back_from_strict_json_as_it_was():
    mixture = {'web': {'dir': '/web', 'weight': 3}, 'own': {'weight': 0.5}}
    config = _complete(optimizer__agc_clipping=math.inf, data__mixture=mixture)
    text = to_json(config)
    json.loads(text, parse_constant=_refuse_constant)
    back = from_json(text, 'config.json')
    assert back['optimizer']['max_grad_norm'] == back['optimizer']['agc_clipping'] == math.inf
    same = config_lib.flatten(back)
    for key, value in config_lib.flatten(config.to_dict()).items():
        assert (tuple(same[key]) if isinstance(value, tuple) else same[key]) == value, key
    assert same['data.mixture.own.split'] == 'train'  # Of `data`.


def test_another_config_is_refused_but_watching_the_run_otherwise_is_not():
    written = to_json(_complete())
    assert json.loads(written)['train']['steps'] == 112_602
    assert check_same_run(_complete(), written, 'config.json') == []
    changed = {'train__log_every_steps': 7, 'checkpoint__keep': 9, 'data__dir': '/elsewhere'}
    watched = _complete(**changed, model__scan=True, model__remat=True)
    message = check_same_run(watched, written, 'config.json')
    assert 'data.dir=/elsewhere (there: None)' in message
    assert len(message) == 5
    with pytest.raises(InputError, match=r'optimizer\.momentum=0\.5 \(there: 0\.9\)'):
        check_same_run(_complete(optimizer__momentum=0.5), written, 'config.json')
    with pytest.raises(InputError, match=r'train\.accumulate_steps=2 \(there: 1\)'):
        check_same_run(_complete(train__accumulate_steps=2), written, 'config.json')


def test_a_source_of_a_mixture_may_lie_elsewhere_and_count_no_other():
    def mixed(**own):
        return _complete(data__mixture={'web': {'weight': 3}, 'own': {'weight': 1, **own}})

    written = to_json(mixed(dir='/here'))
    there = 'data.mixture.own.dir=/there (there: /here)'
    assert check_same_run(mixed(dir='/there'), written, 'config.json') == [there]
    with pytest.raises(InputError, match=r'data\.mixture\.own\.weight=2 \(there: 1\)'):
        check_same_run(mixed(weight=2), written, 'config.json')
    with pytest.raises(InputError, match=r'data\.mixture\.own\.source=None \(there: tfds\)'):
        check_same_run(_complete(), written, 'config.json')


def test_a_longer_run_is_refused_with_the_way_to_train_on():
    with pytest.raises(InputError, match=r'train\.epochs=400\.0 .* --config\.rewind_from=DIR@STEP'):
        check_same_run(_complete(train__epochs=400.0), to_json(_complete()), 'config.json')


@pytest.mark.parametrize('text', ['{', '[]', '3', '{"version": "1"}', '{"version": -1}'])
def test_a_broken_config_is_named(text):
    with pytest.raises(InputError, match=r'DIR/config\.json'):
        check_same_run(_complete(), text, 'DIR/config.json')


def test_a_config_of_a_later_version_is_refused():
    settings = json.loads(to_json(_complete()))
    settings['version'] += 1
    with pytest.raises(InputError, match='a later version of it wrote the file'):
        from_json(json.dumps(settings), 'config.json')


def test_a_setting_that_an_older_run_lacks_takes_the_value_that_then_held():
    settings = json.loads((VERSION_0 / 'config.json').read_text())
    for group, name in (('model', 'second_conv'), ('train', 'accumulate_steps'), ('optimizer', 'lars_trust')):
        del settings[group][name]
    del settings['sam']
    config = from_json(json.dumps(settings), 'config.json')
    assert config['model']['second_conv'] is True
    assert (config['train']['accumulate_steps'], config['optimizer']['lars_trust']) == (1, 0.0)
    assert config['sam']['rho'] == 0.0


def test_every_setting_of_today_is_known_of_a_run_of_version_0():
    """Whoever adds a setting says in `config_file` what held before."""
    config = from_json((VERSION_0 / 'config.json').read_text(), 'config.json')
    assert config_lib.flatten(config).keys() == config_lib.flatten(default.get_config().to_dict()).keys()


def test_a_run_of_version_0_is_resumed_and_its_parameters_load(tmp_path, capfd):
    workdir = tmp_path / 'run'
    shutil.copytree(VERSION_0, workdir)
    weights = load_checkpoint(workdir)
    assert weights.about.step == 4
    assert weights.params['NFNet/~/linear']['w'].shape == (32, 10)
    lines = [json.loads(line) for line in (workdir / 'metrics.jsonl').read_text().splitlines()]
    results = training_runs.train(workdir, SETTINGS_0)
    assert 'already complete at step 4' in capfd.readouterr().out
    for name in ('eval', 'eval_ema'):
        # XLA adds up in another order on another machine.
        assert results[name]['loss'] == pytest.approx(lines[-1][f'{name}/loss'], rel=1e-5)
        assert results[name]['top_1'] == pytest.approx(lines[-1][f'{name}/top_1'], abs=1 / 360)
    jax.tree.map(np.testing.assert_array_equal, load_checkpoint(workdir).params, weights.params)
