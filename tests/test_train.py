"""The whole loop, as a user runs it: from encoded images to checkpoint, killed, gone on with, refused."""

import io
import json
import shutil

import jax
import numpy as np
import pytest
import tars
import tiny_imagenet
import training_runs
from PIL import Image

from nfnets import load_checkpoint
from nfnets.data.digits import DigitsSource
from nfnets.errors import InputError, TrainingStopped

METRICS_OF_STEPS = {
    'train/loss',
    'train/top_1',
    'train/grad_norm',
    'train/agc_clipped_fraction',
    *(f'train/agc_clipped_fraction/{group}' for group in ('stem', 'stage1', 'head')),
    *(f'train/grad_norm/{group}' for group in ('stem', 'stage1', 'head')),
    'learning_rate',
}


def test_a_run_leaves_config_metrics_events_and_checkpoints(undisturbed):
    workdir, output = undisturbed
    config = json.loads((workdir / 'config.json').read_text())
    assert config['train']['steps'] == 12
    assert config['data']['eval_size'] == 16
    lines = training_runs.metrics(workdir)
    training = [line for line in lines if 'train/loss' in line]
    assert [line['step'] for line in training] == list(range(1, 13))
    assert set(training[0]) >= METRICS_OF_STEPS
    evaluations = [line for line in lines if 'eval/top_1' in line]
    assert [line['step'] for line in evaluations] == [6, 12]
    for prefix in ('eval', 'eval_ema'):
        assert evaluations[0][f'{prefix}/num_examples'] == 360  # A fifth of 1,797; 80 does not divide it.
        assert {f'{prefix}/top_5', f'{prefix}/loss'} <= set(evaluations[0])
    assert {p.name for p in (workdir / 'checkpoints').iterdir() if p.is_dir()} == {'4', '8', '12'}
    assert list(workdir.glob('events.out.tfevents.*'))
    assert str(workdir) in output


def test_a_run_learns(undisturbed):
    lines = [line for line in training_runs.metrics(undisturbed[0]) if 'train/loss' in line]
    assert np.mean([x['train/loss'] for x in lines[-3:]]) < np.mean([x['train/loss'] for x in lines[:3]])


def test_a_complete_run_is_evaluated_again_and_left_as_it_is(undisturbed, tmp_path, capfd):
    workdir = tmp_path / 'run'
    shutil.copytree(undisturbed[0], workdir)
    before = (workdir / 'metrics.jsonl').read_text()
    training_runs.train(workdir, training_runs.TINY)
    assert 'already complete at step 12' in capfd.readouterr().out
    assert (workdir / 'metrics.jsonl').read_text() == before


def test_one_device_and_eight_with_blocks_stacked_give_the_same_state(tmp_path):
    # A block, and two more that are alike.
    settings = {**training_runs.TINY, **training_runs.NOT_RANDOM, **training_runs.NFNET, 'model.depths': (3,)}
    process = training_runs.start(tmp_path / '1', settings, devices=1)
    training_runs.train(tmp_path / '8', {**settings, 'model.scan': True})
    training_runs.finish(process)
    training_runs.assert_close(tmp_path / '8', tmp_path / '1')
    one, eight = ([x for x in training_runs.metrics(tmp_path / n) if 'train/loss' in x] for n in '18')
    for key in one[0].keys() - {'images_per_second', 'train/top_1'}:
        if not key.startswith('time/'):
            np.testing.assert_allclose([x[key] for x in eight], [x[key] for x in one], rtol=1e-3, atol=1e-6)

    # A run may be resumed in the other way.
    again = training_runs.train(tmp_path / '1', {**settings, 'model.scan': True})
    last = [x for x in training_runs.metrics(tmp_path / '1') if 'eval_ema/loss' in x][-1]
    assert again['eval_ema']['loss'] == pytest.approx(last['eval_ema/loss'], rel=1e-5)


def test_a_workdir_of_another_config_is_refused_and_untouched(undisturbed):
    workdir, _ = undisturbed
    before = {p: p.stat().st_mtime_ns for p in workdir.rglob('*')}
    with pytest.raises(InputError, match=r'optimizer\.momentum=0\.5'):
        training_runs.train(workdir, {**training_runs.TINY, 'optimizer.momentum': 0.5})
    assert {p: p.stat().st_mtime_ns for p in workdir.rglob('*')} == before


def test_a_workdir_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / 'file').write_text('')
    with pytest.raises(InputError, match='file/run'):
        training_runs.train(tmp_path / 'file' / 'run', training_runs.TINY)


def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_the_last_good_checkpoint(tmp_path):
    settings = {**training_runs.TINY, 'optimizer.learning_rate': 1e37, 'checkpoint.every_steps': 1}
    with pytest.raises(TrainingStopped, match=r'step \d+: the loss is .* last checkpoint: \d+'):
        training_runs.train(tmp_path, settings)
    state, _ = training_runs.state(tmp_path)
    for name, value in state.items():
        assert np.isfinite(np.linalg.norm(value.astype(np.float32))), name


def test_broken_images_of_a_folder_are_named_or_counted(tmp_path):
    rng = np.random.default_rng(0)
    for split, count in (('train', 12), ('val', 5)):
        for name in ('cat', 'dog'):
            directory = tmp_path / 'data' / split / name
            directory.mkdir(parents=True)
            for i in range(count):
                (directory / f'{i}.jpg').write_bytes(tiny_imagenet.jpeg(rng))
    for broken in ('train/cat/3.jpg', 'val/dog/1.jpg'):
        (tmp_path / 'data' / broken).write_bytes(b'not an image')
    settings = {
        **training_runs.TINY,
        'data.source': 'folder',
        'data.dir': str(tmp_path / 'data'),
        'data.eval_split': 'val',
        'model.num_classes': 10,  # As in TINY, which is compiled already.
    }
    with pytest.raises(InputError, match=r'train/cat/3\.jpg cannot be decoded'):
        training_runs.train(tmp_path / 'run', settings)
    # The same run goes on with the other setting.
    results = training_runs.train(tmp_path / 'run', {**settings, 'data.skip_broken': True})
    assert results['eval']['num_examples'] == 9
    evaluations = [line for line in training_runs.metrics(tmp_path / 'run') if 'eval/top_1' in line]
    # So many epochs of the 24 images in 6 and 12 batches of 64.
    assert [line['train/skipped_images'] for line in evaluations] == [16, 32]


def test_a_run_on_tars_is_that_on_the_same_images_and_resumes(undisturbed, tmp_path):
    data, run = tmp_path / 'data', tmp_path / 'run'
    for split in ('train', 'eval'):
        source, files = DigitsSource(split), []
        for index in range(len(source)):
            encoded, label = source.read(index)
            pixels = np.asarray(Image.open(io.BytesIO(encoded)))
            files += [(f'{index:04}.cls', b'%d' % label), (f'{index:04}.webp', tars.encode(pixels))]
        half = len(files) // 4 * 2
        tars.write_tar(data / f'digits-{split}-0000.tar', files[:half])
        tars.write_tar(data / f'digits-{split}-0001.tar', files[half:])
    settings = {**training_runs.TINY, 'data.source': 'webdataset', 'data.dir': str(data)}
    training_runs.train(run, settings)
    training_runs.assert_equal(run, undisturbed[0])
    for step in ('8', '12'):
        shutil.rmtree(run / 'checkpoints' / step)
    training_runs.train(run, settings)
    training_runs.assert_equal(run, undisturbed[0])


def _digits_folder(folder, classes):
    """PNG files of some of the digits, as DIR/train/CLASS and DIR/val/CLASS."""
    for split, name in (('train', 'train'), ('eval', 'val')):
        source = DigitsSource(split)
        for index in range(len(source)):
            encoded, label = source.read(index)
            if label in classes and index < 160:
                path = folder / name / str(label) / f'{index}.png'
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(encoded)
    return {
        **training_runs.TINY,
        'data.source': 'folder',
        'data.dir': str(folder),
        'data.eval_split': 'val',
        'model.num_classes': 10,  # As in TINY, which is compiled already.
    }


def test_a_run_on_other_classes_starts_from_another_runs_ema_and_leaves_what_is_frozen(
    undisturbed, tmp_path, capfd
):
    before = load_checkpoint(undisturbed[0]).ema_params
    settings = _digits_folder(tmp_path / 'data', {7, 8, 9})
    changed = {'init_from': str(undisturbed[0]), 'optimizer.freeze': '^(?!NF_ResNet/~/linear/)'}
    frozen = {**settings, **changed, 'model.num_classes': 3}
    training_runs.train(tmp_path / 'run', frozen)
    assert 'with a new classifier for 3 classes' in capfd.readouterr().out
    after = load_checkpoint(tmp_path / 'run')
    assert after.about.class_names == ('7', '8', '9')
    fresh = after.params.pop('NF_ResNet/~/linear')
    assert fresh['b'].shape == (3,)
    assert np.abs(fresh['b']).max() > 0  # Zero at the start: trained.
    before.pop('NF_ResNet/~/linear')
    jax.tree.map(np.testing.assert_array_equal, after.params, before)

    # Going on needs the file that it started from no more.
    (tmp_path / 'run' / 'config.json').write_text(
        (tmp_path / 'run' / 'config.json').read_text().replace(str(undisturbed[0]), str(tmp_path / 'gone'))
    )
    training_runs.train(tmp_path / 'run', {**frozen, 'init_from': str(tmp_path / 'gone')})
    assert 'already complete at step 12' in capfd.readouterr().out


def test_a_run_that_starts_from_another_has_its_images_unless_set_otherwise(undisturbed, tmp_path, capfd):
    """A run at 16 px, where the variant F0 would be trained at 192 px and evaluated at 256."""
    sizes = ('data.train_size', 'data.eval_size', 'data.eval_margin')
    settings = {**_digits_folder(tmp_path / 'data', {7, 8, 9}), **dict.fromkeys(sizes)}
    start = tmp_path / 'start'
    shutil.copytree(undisturbed[0], start)
    settings.update({'init_from': str(start), 'data.eval_size': 20})
    training_runs.train(tmp_path / 'run', settings)
    assert 'on images of 16 px' in capfd.readouterr().out
    data = json.loads((tmp_path / 'run' / 'config.json').read_text())['data']
    assert (data['train_size'], data['eval_size'], data['eval_margin']) == (16, 20, 0)
    shutil.rmtree(start)  # What is resumed knows the sizes itself.
    training_runs.train(tmp_path / 'run', settings)
    assert 'already complete at step 12' in capfd.readouterr().out


def test_resuming_on_data_elsewhere_warns(tmp_path, capfd):
    settings = _digits_folder(tmp_path / 'data', {7, 8})
    training_runs.train(tmp_path / 'run', settings)
    assert 'data.dir' not in capfd.readouterr().err
    (tmp_path / 'data').rename(tmp_path / 'moved')
    training_runs.train(tmp_path / 'run', {**settings, 'data.dir': str(tmp_path / 'moved')})
    there = f'{tmp_path}/moved (there: {tmp_path}/data)'
    assert f'warning: resuming with data.dir={there}\n' in capfd.readouterr().err


@pytest.mark.parametrize(
    ('changed', 'message'),
    [
        ({'init_from': '/none.npz'}, r'/none\.npz cannot be read'),
        ({'optimizer.freeze': 'head'}, r'optimizer\.freeze=head is found in no parameter'),
    ],
)
def test_a_start_that_cannot_be_made_writes_nothing(changed, message, tmp_path):
    with pytest.raises(InputError, match=message):
        training_runs.train(tmp_path / 'run', {**training_runs.TINY, **changed})
    assert not (tmp_path / 'run').exists()


def test_a_checkpoint_of_another_network_writes_nothing(undisturbed, tmp_path):
    with pytest.raises(InputError, match=r"does not fit the network.*--config\.model\.widths='\(32,\)'"):
        training_runs.train(
            tmp_path / 'run', {**training_runs.TINY, 'model.widths': (16,), 'init_from': str(undisturbed[0])}
        )
    assert not (tmp_path / 'run').exists()


def test_a_workdir_of_other_classes_is_refused(tmp_path):
    settings = _digits_folder(tmp_path / 'data', {7, 8})
    training_runs.train(tmp_path / 'run', settings)
    for split in ('train', 'val'):
        (tmp_path / 'data' / split / '8').rename(tmp_path / 'data' / split / 'eight')
    with pytest.raises(InputError, match='on other classes than the data has now'):
        training_runs.train(tmp_path / 'run', settings)


def test_sam_of_the_config_looks_at_a_higher_loss(undisturbed, tmp_path):
    settings = {'train.steps': 1, 'optimizer.warmup_steps': 0.0, 'sam.rho': 0.5, 'sam.ascent_fraction': 1.0}
    training_runs.train(tmp_path / 'run', {**training_runs.TINY, **settings})
    climbed, ordinary = training_runs.metrics(tmp_path / 'run')[0], training_runs.metrics(undisturbed[0])[0]
    assert climbed['step'] == ordinary['step'] == 1
    assert climbed['train/loss'] > ordinary['train/loss'] * 1.01
