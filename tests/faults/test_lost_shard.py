"""Data that disappears while a run reads it."""

import shutil

import training_runs

SETTINGS = {
    **training_runs.LONG,
    'data.source': 'tfds',
    'data.name': 'imagenet2012',
    'data.train_split': 'train',
    'data.eval_split': 'validation',
    'train.batch_size': 24,
    'eval.batch_size': 8,
}


def test_the_run_saves_and_ends_with_the_name_of_the_shard(tiny_imagenet_tfrecords, tmp_path):
    shutil.copytree(tiny_imagenet_tfrecords, tmp_path / 'data')
    workdir = tmp_path / 'run'
    process = training_runs.start(workdir, {**SETTINGS, 'data.dir': tmp_path / 'data'})
    training_runs.wait_for_checkpoint(workdir, 4, process)
    (shard,) = (tmp_path / 'data').rglob('*train.tfrecord*')
    shard.unlink()
    output, _ = process.communicate(timeout=training_runs.PATIENCE)
    assert process.returncode == 2, output
    message = output.splitlines()[-1]
    assert f'of {shard}' in message
    saved = int(message.rpartition('saved at step ')[2])
    assert (workdir / 'checkpoints' / str(saved)).is_dir()
    assert saved >= 4
