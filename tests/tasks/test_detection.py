"""Detection in the training loop: a whole run, stopped and resumed, and what it starts from."""

import functools
import json
import re
import shutil

import detection_runs
import jax
import ml_collections
import numpy as np
import pytest
import training_runs
from coco_sets import write_set

from nfnets import build, load_checkpoint
from nfnets.configs import default, scenes
from nfnets.detection.batches import eval_batches
from nfnets.detection.detections import Detections
from nfnets.detection.examples import CocoExamples
from nfnets.errors import InputError
from nfnets.evaluation import detect
from nfnets.inference.classifier import make_classifier
from nfnets.inference.score import config_of
from nfnets.run.workdir import read_config
from nfnets.train_step import run_keys

SIDE = detection_runs.SIDE
SETTINGS = {
    **detection_runs.SETTINGS,
    'detection.most_objects': 2,
    'train.batch_size': 8,
    'train.steps': 4,
    'train.log_every_steps': 1,
    'optimizer.warmup_steps': 1.0,
    'optimizer.freeze': '/initial_conv|/nf_res_block/',
    'eval.batch_size': 8,
    'eval.every_steps': 4,
    'checkpoint.every_steps': 2,
}
LOSSES = ('objectness', 'anchor_shifts', 'classes', 'roi_shifts', 'mask')


def _image(seed, count):
    rng = np.random.default_rng(seed)
    pixels, objects = rng.integers(0, 60, (SIDE, SIDE, 3)).astype(np.uint8), []
    for place in range(count):
        mask = np.zeros((SIDE, SIDE), bool)
        top, left = rng.integers(0, 8), 21 * place + rng.integers(0, 4)
        mask[top : top + rng.integers(14, 40), left : left + rng.integers(10, 16)] = True
        label = int(rng.integers(0, 3))
        pixels[mask, label] = 255
        objects.append((label, mask, False))
    return pixels, objects


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    directory = tmp_path_factory.mktemp('scenes')
    write_set(directory, 'train', [_image(seed, 1 + seed % 3) for seed in range(24)])
    return write_set(directory, 'val', [_image(seed, 2) for seed in range(100, 111)])


@pytest.fixture(scope='module')
def trained(data, tmp_path_factory):
    workdir = tmp_path_factory.mktemp('runs') / 'whole'
    return workdir, _train(workdir, data)


def _train(workdir, data, **changed):
    settings = {**SETTINGS, 'data.dir': str(data), **changed}
    return training_runs.train(workdir, settings, config=functools.partial(scenes.get_config, 'NFResNet'))


def test_a_run_logs_the_five_losses_and_evaluates_every_image_once(trained, data):
    workdir, results = trained
    lines = training_runs.metrics(workdir)
    steps = [line for line in lines if 'train/loss' in line]
    assert [line['step'] for line in steps] == [1, 2, 3, 4]
    for line in steps:
        losses = [line[f'train/loss/{name}'] for name in LOSSES]
        assert line['train/loss'] == pytest.approx(sum(losses), rel=1e-5)
        assert all(value > 0 for value in losses)
    (evaluated,) = [line for line in lines if 'eval/box_ap' in line]
    # A batch of 8 does not divide the 11 images.
    assert (evaluated['eval/num_examples'], evaluated['eval_ema/num_examples']) == (11, 11)
    assert evaluated['eval/box_ap'] == results['eval']['box_ap']
    assert {f'eval/mask_ap/{name}' for name in CocoExamples(data, 'val').class_names} <= evaluated.keys()
    # A third of the images has three objects, and there is room for two; each is seen once or twice.
    assert 8 <= evaluated['train/dropped_objects'] <= 16
    assert evaluated['train/skipped_images'] == 0


def test_what_is_frozen_stays_and_all_else_learns(trained):
    workdir, _ = trained
    run = load_checkpoint(workdir)
    config = ml_collections.FrozenConfigDict(read_config(workdir))
    initial = jax.jit(functools.partial(build.initial_variables, config))
    params, _ = initial(run_keys(config.seed)[0])
    still = {
        module
        for module, names in params.items()
        if all(np.array_equal(names[name], run.params[module][name]) for name in names)
    }
    frozen = {module for module in params if re.search('/initial_conv|/nf_res_block/', f'{module}/')}
    assert still == frozen
    assert len(frozen) == 6


def test_a_run_that_was_killed_ends_like_one_that_was_not(trained, data, tmp_path, capfd):
    workdir, _ = trained
    resumed = tmp_path / 'run'
    shutil.copytree(workdir, resumed)
    shutil.rmtree(resumed / 'checkpoints' / '4')
    lines = (resumed / 'metrics.jsonl').read_text().splitlines(keepends=True)
    (resumed / 'metrics.jsonl').write_text(''.join(x for x in lines if json.loads(x)['step'] <= 3))
    _train(resumed, data)
    training_runs.assert_equal(resumed, workdir)
    assert [_without_counts(x) for x in training_runs.metrics(resumed)] == [
        _without_counts(x) for x in training_runs.metrics(workdir)
    ]
    output = capfd.readouterr().out
    assert 'Mask R-CNN on NFResNet of 1 x 8, 1 x 8, 1 x 8, 1 x 8, ' in output
    assert 'resuming from step 2' in output
    assert '  eval:     box AP ' in output
    assert ' over 11 images' in output


def _without_counts(line):
    """What was left out is counted since the start of the process."""
    return {name: value for name, value in line.items() if name != 'train/dropped_objects'}


def test_an_evaluation_of_classifiers_refuses_a_detector(trained):
    weights = load_checkpoint(trained[0])
    with pytest.raises(InputError, match='is a run with task=detection; it must be classification'):
        config_of(weights, default.get_config(), {}, is_given=False, keeps_network=False)
    with pytest.raises(InputError, match='is a run with task=detection; it must be classification'):
        make_classifier(weights)


def test_settings_that_only_classification_uses_are_refused(data, tmp_path):
    with pytest.raises(InputError, match=r'augment\.mixup_alpha=0\.2 has no effect with task=detection: '):
        _train(tmp_path, data, **{'augment.mixup_alpha': 0.2})
    with pytest.raises(InputError, match=r'data\.mixture has no effect with task=detection: '):
        _train(tmp_path, data, **{'data.mixture': {'web': {'weight': 1}}})
    with pytest.raises(InputError, match=r'task=detection is not allowed with data\.source=folder'):
        _train(tmp_path, data, **{'data.source': 'folder'})
    with pytest.raises(InputError, match='task=detection needs a network of 4 stages, and '):
        _train(tmp_path, data, **{'model.widths': (8, 8), 'model.depths': (1, 1)})
    with pytest.raises(InputError, match=r'data\.eval_size=100 must be a multiple of 64 px, such as 128'):
        _train(tmp_path, data, **{'data.eval_size': 100})
    with pytest.raises(InputError, match=r"data\.source='coco' needs data\.dir"):
        _train(tmp_path, data, **{'data.dir': None})
    assert not list(tmp_path.iterdir())


def test_an_evaluation_counts_each_image_once_and_what_was_found_where_it_is(data):
    examples = CocoExamples(data, 'val')
    found = {'eval': 0, 'eval_ema': 0}

    def step(name, seen):
        """The truth, image after image; of the EMA with wrong labels. Padding repeats the last image."""
        detections, shape = [], seen['image_sizes'].shape[:2]
        for _ in range(np.prod(shape)):
            image = examples.annotated(min(found[name], len(examples) - 1))
            labels = image.labels if name == 'eval' else (image.labels + 1) % 3
            detections.append((image.boxes, labels, np.array([0.9, 0.8], np.float32), np.ones(2, bool)))
            found[name] += 1
        fields = (np.stack(field) for field in zip(*detections, strict=True))
        boxes, labels, scores, there = (field.reshape(*shape, *field.shape[1:]) for field in fields)
        return Detections(boxes, labels, scores, there), np.ones((*shape, 2, 28, 28), np.float32)

    batches = eval_batches(examples, size=SIDE, batch_size=8, skip_broken=False)
    results = detect.evaluate(step, {name: name for name in found}, batches, examples, SIDE)
    assert found == {'eval': 16, 'eval_ema': 16}
    for kind in ('box_ap', 'mask_ap', *(f'box_ap/{name}' for name in examples.class_names)):
        assert results['eval'][kind] == pytest.approx(1.0, abs=1e-6), kind
        assert results['eval_ema'][kind] < 0.2
    assert {each['num_examples'] for each in results.values()} == {11}
    assert detect.summary(results).startswith(
        '  eval:     box AP 100.00% (50: 100.00%, 75: 100.00%), mask AP '
    )
