"""What a run warns of before it starts, and what it says where memory does not suffice."""

import jax
import pytest
import training_runs

from nfnets import build
from nfnets.config import complete
from nfnets.configs import imagenet
from nfnets.data.digits import DigitsSource
from nfnets.errors import TrainingStopped
from nfnets.planning import memory, precheck
from nfnets.train import train_and_evaluate


def _warnings(settings=(), config=None):
    config = config or training_runs.config(training_runs.TINY)
    config.update_from_flattened_dict(dict(settings))
    config = complete(config, num_examples=1437, num_classes=10, num_devices=8)
    return precheck.warnings(config, DigitsSource('train'), DigitsSource('eval'))


def test_an_ordinary_run_is_warned_of_nothing():
    assert _warnings() == []


def test_evaluating_on_the_training_data_warns():
    (message,) = _warnings({'data.eval_split': 'train'})
    assert "data.train_split and data.eval_split are both 'train'" in message


def test_a_mixture_with_the_evaluation_split_in_it_warns():
    assert _warnings({'data.eval_split': 'train', 'data.mixture': {'other': {'split': 'eval'}}}) == []
    (message,) = _warnings({'data.mixture': {'same': {'split': 'eval'}, 'other': {}}})
    assert message.startswith("data.mixture.same.split and data.eval_split are both 'eval'")


def test_a_batch_larger_than_the_data_warns():
    (message,) = _warnings({'train.batch_size': 2048, 'optimizer.warmup_steps': 1.0})
    assert message == 'train.batch_size=2048 is more than the 1437 images there are to train on'


def test_warnings_of_a_source_are_passed_on():
    config = complete(
        training_runs.config(training_runs.TINY), num_examples=1437, num_classes=10, num_devices=8
    )
    train, evaluation = DigitsSource('train'), DigitsSource('eval')
    train.warnings, evaluation.warnings = ('3 files skipped',), ('no image of 2 classes',)
    assert precheck.warnings(config, train, evaluation) == ['3 files skipped', 'no image of 2 classes']


@pytest.mark.parametrize('gib', [2, 8])
def test_the_papers_batch_on_one_small_machine_warns_before_it_compiles(gib, monkeypatch):
    monkeypatch.setattr(memory, 'device_bytes', lambda: gib << 30)
    config = imagenet.get_config('F0')
    config.train.batch_size = 4096
    message = [line for line in _warnings(config=config) if 'GiB' in line]
    assert len(message) == 1
    for part in (
        'train.batch_size=4096 (512 images on each device)',
        'data.train_size=192',
        'train.accumulate_steps=1',
        f'which has {gib};',
    ):
        assert part in message[0]
    # In parts, or with what is computed again, it may fit.
    config.train.accumulate_steps = 64
    assert not [line for line in _warnings(config=config) if 'GiB' in line]


def test_the_memory_in_the_warning_is_most_of_what_xla_takes_and_no_more(monkeypatch):
    monkeypatch.setattr(precheck, '_FEW', 10**9)  # Asked of the smallest network, too.
    monkeypatch.setattr(memory, 'device_bytes', lambda: 2**20)
    changed = {'model.scan': True, 'model.widths': (16,), 'model.depths': (3,), 'train.batch_size': 512}
    config = training_runs.config({**training_runs.TINY, **changed, 'optimizer.warmup_steps': 1.0})
    config = complete(config, num_examples=1437, num_classes=10, num_devices=8)
    taken = memory.memory_of(build.lower_train_step(config).compile()).temporaries
    assert 0.2 * taken < precheck.memory_needed(config) < taken


def test_out_of_memory_is_one_line_that_names_batch_size_and_parts(tmp_path, monkeypatch):
    """XLA's own words, when a step asks for more than there is."""

    def step(*args):
        raise jax.errors.JaxRuntimeError('RESOURCE_EXHAUSTED: Out of memory allocating 492699290320 bytes.')

    monkeypatch.setattr(build, 'train_step', lambda config: step)
    with pytest.raises(TrainingStopped) as error:
        train_and_evaluate(training_runs.config(training_runs.TINY), tmp_path / 'run')
    assert str(error.value) == (
        'out of memory at step 1, train.batch_size=64 (8 images on each device) at data.train_size=16 px '
        'with train.accumulate_steps=1: 458.9 GiB asked for at once; a smaller train.batch_size, more '
        'train.accumulate_steps, model.scan with model.remat, or, on several devices, '
        'train.shard_optimizer helps; last checkpoint: none'
    )


def test_another_error_of_the_compiler_is_not_taken_for_it(tmp_path, monkeypatch):
    def step(*args):
        raise jax.errors.JaxRuntimeError('INTERNAL: a mistake of the compiler')

    monkeypatch.setattr(build, 'train_step', lambda config: step)
    with pytest.raises(jax.errors.JaxRuntimeError, match='a mistake of the compiler'):
        train_and_evaluate(training_runs.config(training_runs.TINY), tmp_path / 'run')
