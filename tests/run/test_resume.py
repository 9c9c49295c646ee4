"""The paper's recipe on TFDS's own ImageNet, with all that it draws, resumed: the same to the last bit."""

import json
import shutil

import ml_collections
import training_runs

from nfnets.configs import imagenet
from nfnets.run.workdir import read_config

# Sizes and lengths alone: what the recipe does to images, network and parameters is as the config has it.
SETTINGS = {
    'model.widths': (16,),
    'model.depths': (2,),  # The second is the first that stochastic depth drops.
    'model.group_width': 8,
    'data.train_size': 32,
    'data.eval_size': 32,
    'train.batch_size': 16,
    'train.steps': 6,
    'train.log_every_steps': 1,
    'optimizer.warmup_steps': 2.0,
    'eval.every_steps': 3,
    'checkpoint.every_steps': 2,
}
# What is drawn, rounded or averaged in the recipe, and its absence.
OFF = {
    'model.dropout_rate': 0.0,
    'model.stochastic_depth_rate': 0.0,
    'data.flip': False,
    'augment.mixup_alpha': 0.0,
    'augment.cutmix': False,
    'augment.partners': 'batch',
    'augment.randaugment_layers': 0,
    'train.precision': 'float32',
    'optimizer.ema_decay': 0.0,
}


def _as_stopped_at_step_2(workdir, copy):
    """What a run that was killed during its fourth step has left."""
    shutil.copytree(workdir, copy)
    for step in ('4', '6'):
        shutil.rmtree(copy / 'checkpoints' / step)
    lines = (copy / 'metrics.jsonl').read_text().splitlines(keepends=True)
    (copy / 'metrics.jsonl').write_text(''.join(x for x in lines if json.loads(x)['step'] <= 3))


def _assert_same(workdir, expected):
    training_runs.assert_equal(workdir, expected)
    assert training_runs.state(workdir)[1] == {'position': 6 * 16 * 2}  # Each image with a fresh partner.
    lines = training_runs.metrics(workdir)
    assert lines == training_runs.metrics(expected)
    assert [x['step'] for x in lines if 'train/loss' in x] == [1, 2, 3, 4, 5, 6]
    evaluations = [x for x in lines if 'eval_ema/loss' in x]
    assert [x['step'] for x in evaluations] == [3, 6]
    assert all(x['eval/num_examples'] == x['eval_ema/num_examples'] == 37 for x in evaluations)


def _assert_everything_is_on(workdir):
    """That each ingredient is in the run's own config."""
    config = ml_collections.ConfigDict(read_config(workdir))
    assert config.model.num_classes == 1000
    assert config.train.precision == 'bfloat16'
    assert config.augment.partners == 'fresh'
    for name, off in OFF.items():
        group, key = name.split('.')
        assert config[group][key] != off, name
    assert config.model.dropout_rate > 0
    assert config.model.stochastic_depth_rate > 0
    assert config.augment.randaugment_layers > 0
    assert config.augment.randaugment_magnitude == 5
    assert config.augment.mixup_alpha > 0
    assert config.augment.cutmix
    assert 0 < config.optimizer.ema_decay < 1


def test_the_recipe_resumed_ends_bit_equal(tiny_imagenet_tfrecords, tmp_path, capfd):
    def train(workdir):
        settings = {**SETTINGS, 'data.dir': str(tiny_imagenet_tfrecords)}
        training_runs.train(workdir, settings, lambda: imagenet.get_config('F0'))
        return capfd.readouterr().out

    assert '60 images to train on, 37 to evaluate on' in train(tmp_path / 'undisturbed')
    _as_stopped_at_step_2(tmp_path / 'undisturbed', tmp_path / 'run')
    assert 'resuming from step 2\n' in train(tmp_path / 'run')
    _assert_same(tmp_path / 'run', tmp_path / 'undisturbed')
    _assert_everything_is_on(tmp_path / 'run')
