"""Images/s, and the stop at a value that is not finite."""

import math

import numpy as np
import pytest

from nfnets.errors import TrainingStopped
from nfnets.report import Throughput, check_finite


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
