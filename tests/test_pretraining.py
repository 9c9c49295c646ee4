"""Pre-training on tars of several digits and garments an image, by one and two processes, and fine-tuning."""

import json
import shutil

import numpy as np
import pytest
import tars
import training_runs

from nfnets.errors import InputError

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
    """Tars to train on and one to evaluate on: WebP images of up to four things, JSON with their labels."""
    digits, of_digits = tars.digits()
    garments, of_garments = tars.garments()
    things = [np.kron(digit, np.ones((3, 3), np.uint8)) for digit in digits[:200]] + list(garments)
    labels = [*of_digits[:200].tolist(), *(of_garments + 10).tolist()]
    rng = np.random.default_rng(0)
    for name, count in {'train-0': 50, 'train-1': 33, 'train-2': 45, 'val-0': 80}.items():
        files = []
        for number in range(count):
            image = np.zeros((56, 56), np.uint8)
            of_each = rng.integers(200, size=2).tolist() + rng.integers(200, 280, size=2).tolist()
            chosen = rng.permutation(of_each)[: rng.integers(1, 5)].tolist()
            for place, index in zip(rng.permutation(4).tolist(), chosen, strict=False):
                thing = things[index]
                top, left = 28 * (place // 2), 28 * (place % 2)
                image[top : top + len(thing), left : left + len(thing)] = thing
            said = json.dumps({'labels': sorted({labels[index] for index in chosen})}).encode()
            files += [(f'{number:03}.webp', tars.encode(image)), (f'{number:03}.json', said)]
        tars.write_tar(directory / f'{name}.tar', files)
    names = [*map(str, range(10)), *tars.GARMENTS]
    (directory / 'classes.txt').write_text(''.join(f'{name}\n' for name in names))


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
    settings = {**training_runs.TINY, 'init_from': str(pretrained)}
    results = training_runs.train(tmp_path / 'run', settings)
    assert results['eval']['num_examples'] == 360
    assert 'mean_average_precision' not in results['eval']
    said = capfd.readouterr().out
    assert str(pretrained) in said
    assert 'with a new classifier for 10 classes' in said


def test_a_mixture_with_images_of_one_label_resumes_bit_equal(data, tmp_path, capfd):
    mixture = {'several': {'weight': 1}, 'single': {'source': 'digits', 'split': 'train', 'weight': 3}}
    settings = {**SETTINGS, **data, 'data.train_split': 'train', 'data.mixture': mixture}
    undisturbed, run = tmp_path / 'undisturbed', tmp_path / 'run'
    training_runs.train(undisturbed, settings)
    shutil.copytree(undisturbed, run)
    for step in ('8', '12'):
        shutil.rmtree(run / 'checkpoints' / step)
    training_runs.train(run, settings)
    training_runs.assert_equal(run, undisturbed)
    # The tars have 128 images, and 1,437 digits are to train on.
    said = '1,565 images an epoch (25% of several, 3.06 passes; 75% of single, 0.817 passes) to train on'
    assert said in capfd.readouterr().out
    mixture['single']['weight'] = 4
    with pytest.raises(InputError, match=r'data\.mixture\.single\.weight=4 \(there: 3\)'):
        training_runs.train(run, settings)
