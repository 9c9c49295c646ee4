"""Data that disappears, or is cut short, while a run reads it."""

import shutil

import pytest
import tiny_imagenet
import training_runs

SETTINGS = {
    **training_runs.TINY,
    'data.source': 'tfds',
    'data.name': 'imagenet2012',
    'data.train_split': 'train',
    'data.eval_split': 'validation',
    'train.batch_size': 24,
    'eval.batch_size': 8,
    'train.steps': 20_000,
    'eval.every_steps': 20_000,
}


def _remove(file):
    file.unlink()


def _cut_short(file):
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    directory = tmp_path_factory.mktemp('data')
    tiny_imagenet.prepare(directory)
    return directory


@pytest.mark.parametrize('damage', [_remove, _cut_short])
def test_the_run_saves_and_ends_with_the_name_of_the_shard(damage, data, tmp_path):
    shutil.copytree(data, tmp_path / 'data')
    workdir = tmp_path / 'run'
    process = training_runs.start(workdir, {**SETTINGS, 'data.dir': tmp_path / 'data'})
    training_runs.wait_for(workdir / 'checkpoints' / '4', process)
    (shard,) = (tmp_path / 'data').rglob('*train.tfrecord*')
    damage(shard)
    output, _ = process.communicate(timeout=training_runs.PATIENCE)
    assert process.returncode == 2, output
    told = output.splitlines()[-1]
    assert f'of {shard}' in told
    saved = int(told.rpartition('saved at step ')[2])
    assert (workdir / 'checkpoints' / str(saved)).is_dir()
    assert saved >= 4
