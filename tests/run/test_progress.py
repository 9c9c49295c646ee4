"""Images/s, and the stop at a value that is not finite."""

import json
import math

import ml_collections
import numpy as np
import pytest

from nfnets.errors import TrainingStopped
from nfnets.run.metrics import MetricsWriter
from nfnets.run.progress import Progress, Throughput, check_finite
from nfnets.run.time_use import TimeUse


def test_norms_and_clipped_fractions_are_logged_for_each_group(tmp_path):
    writer = MetricsWriter(tmp_path, 0)
    train = ml_collections.FrozenConfigDict({'steps': 1, 'batch_size': 5, 'log_every_steps': 1})
    groups = {'a': 'head', 'b': 'stem', 'c': 'head'}
    progress = Progress(
        writer, TimeUse(), train, start_step=0, schedule=lambda step: 0.5 + step, groups=groups
    )
    scalars = dict.fromkeys(('loss', 'top_1', 'update_norm', 'param_norm', 'agc_clipped_fraction'), 1.0)
    shares = {'head': np.float32(0.25), 'stem': np.float32(0.75)}
    squares = np.array([9.0, 4.0, 16.0])
    progress.add(1, {**scalars, 'agc_clipped_by_group': shares, 'grad_sum_squares': squares})
    progress.flush()
    progress.close()
    writer.close()
    line = json.loads((tmp_path / 'metrics.jsonl').read_text())
    assert (line['train/grad_norm/head'], line['train/grad_norm/stem']) == (5.0, 2.0)
    assert line['train/grad_norm'] == pytest.approx(29**0.5)
    assert line['train/agc_clipped_fraction/head'] == 0.25
    assert line['train/examples_seen'] == 5
    assert line['learning_rate'] == 0.5  # Of the update that this step made.
    assert line['train/agc_clipped_fraction/stem'] == 0.75
    assert sum(line[name] for name in line if name.startswith('time/')) == pytest.approx(1.0)


def test_finite_metrics_pass():
    check_finite(3, {'loss': np.float32(1), 'param_norm': 1.0, 'grad_sum_squares': np.ones(2)}, ['a', 'b'])


@pytest.mark.parametrize('bad', [math.nan, math.inf])
def test_a_gradient_that_is_not_finite_names_step_loss_and_parameters(bad):
    metrics = {'loss': np.float32(1.5), 'param_norm': 1.0, 'grad_sum_squares': np.array([1.0, bad, 0.0, bad])}
    with pytest.raises(TrainingStopped, match=r'step 7: the loss is 1\.5 .*: b, and 1 more of 4$'):
        check_finite(7, metrics, ['a', 'b', 'c', 'd'], most=1)


def test_a_loss_that_is_not_finite_stops_even_with_finite_gradients():
    metrics = {'loss': np.float32('nan'), 'param_norm': 1.0, 'grad_sum_squares': np.ones(1)}
    with pytest.raises(TrainingStopped, match='step 2: the loss is nan'):
        check_finite(2, metrics, ['a'])


def test_images_per_second_leave_out_the_compilation_and_pauses():
    times = iter([0.0, 100.0, 102.0, 104.0, 105.0, 500.0, 510.0, 512.0])
    throughput = Throughput(batch_size=10, clock=lambda: next(times))
    assert throughput.count(ends_interval=False) == pytest.approx(10 / 100)  # With a compilation.
    assert throughput.count(ends_interval=False) == pytest.approx(10 / 2)
    assert throughput.count(ends_interval=True) == pytest.approx(20 / 4)
    assert throughput.count(ends_interval=False) == pytest.approx(10 / 1)
    throughput.restart()
    assert throughput.count(ends_interval=False) == pytest.approx(10 / 10)
    assert throughput.count(ends_interval=False) == pytest.approx(10 / 2)


def test_parameters_that_are_not_finite_stop_before_they_are_saved():
    metrics = {'loss': np.float32(1), 'param_norm': np.float32('inf'), 'grad_sum_squares': np.ones(1)}
    with pytest.raises(TrainingStopped, match=r'step 3: .* norm of the parameters inf'):
        check_finite(3, metrics, ['a'])
