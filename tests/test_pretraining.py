"""Pre-training on tars of images with several labels, by one and two processes, and fine-tuning after it."""

import json
import shutil

import numpy as np
import pytest
import tars
import training_runs

SETTINGS = {
    **training_runs.TINY,
    **training_runs.NOT_RANDOM,
    'data.source': 'webdataset',
    'data.eval_split': 'val',
    'train.loss': 'sigmoid',
    'train.label_smoothing': 0.0,
    'eval.batch_size': 48,  # Does not divide the 80 images.
}


def _write(directory):
    """Tars to train on and one to evaluate on: WebP images of up to four digits, JSON with their labels."""
    pixels, labels = tars.digits()
    rng = np.random.default_rng(0)
    for name, count in {'train-0': 50, 'train-1': 33, 'train-2': 45, 'val-0': 80}.items():
        files = []
        for number in range(count):
            image, chosen = (
                np.zeros((2, 2, 8, 8), np.uint8),
                rng.integers(len(labels), size=rng.integers(1, 5)),
            )
            for place, index in zip(rng.permutation(4), chosen, strict=False):
                image[place // 2, place % 2] = pixels[index]
            encoded = tars.encode(image.swapaxes(1, 2).reshape(16, 16))
            said = json.dumps({'labels': sorted({int(labels[index]) for index in chosen})}).encode()
            files += [(f'{number:03}.webp', encoded), (f'{number:03}.json', said)]
        tars.write_tar(directory / f'{name}.tar', files)
    (directory / 'classes.txt').write_text(''.join(f'{digit}\n' for digit in range(10)))


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    directory = tmp_path_factory.mktemp('tars')
    _write(directory)
    return {'data.dir': str(directory)}


@pytest.fixture(scope='module')
def pretrained(data, tmp_path_factory):
    workdir = tmp_path_factory.mktemp('one') / 'run'
    training_runs.train(workdir, {**SETTINGS, **data})
    return workdir


def test_a_run_that_was_killed_resumes_bit_equal(data, pretrained, tmp_path):
    run = tmp_path / 'run'
    shutil.copytree(pretrained, run)
    for step in ('8', '12'):
        shutil.rmtree(run / 'checkpoints' / step)
    training_runs.train(run, {**SETTINGS, **data})
    training_runs.assert_equal(run, pretrained)
    assert training_runs.metrics(run)[-1]['eval/num_examples'] == 80


def test_two_processes_train_and_evaluate_as_one(data, pretrained, tmp_path):
    processes = training_runs.start_several(2, 4, tmp_path / 'run', {**SETTINGS, **data})
    for process in processes:
        training_runs.finish(process)
    training_runs.assert_close(tmp_path / 'run', pretrained)
    found, expected = (training_runs.metrics(run)[-1] for run in (tmp_path / 'run', pretrained))
    assert found['eval/num_examples'] == expected['eval/num_examples'] == 80
    for key in ('loss', 'mean_average_precision', 'top_1', 'recall_at_5'):
        assert found[f'eval/{key}'] == pytest.approx(expected[f'eval/{key}'], rel=1e-3), key


def test_a_fine_tuned_network_starts_from_what_was_pre_trained(pretrained, tmp_path, capfd):
    settings = {**training_runs.TINY, **training_runs.NOT_RANDOM, 'init_from': str(pretrained)}
    results = training_runs.train(tmp_path / 'run', settings)
    assert results['eval']['num_examples'] == 360
    assert 'mean_average_precision' not in results['eval']
    said = capfd.readouterr().out
    assert str(pretrained) in said
