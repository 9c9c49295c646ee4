"""Fractions of time."""

import pytest

from nfnets.run.time_use import TimeUse


def test_all_time_of_an_interval_is_attributed():
    times = iter([0.0, 1.0, 4.0, 8.0, 10.0, 10.0, 13.0, 14.0])
    time_use = TimeUse(lambda: next(times))
    time_use.spend_on('steps')  # A second of input before.
    time_use.spend_on('input')  # Three of steps.
    time_use.spend_on('evaluation')  # Four of input.
    fractions = time_use.fractions()  # Two of evaluation.
    assert fractions == pytest.approx(
        {'time/input': 0.5, 'time/steps': 0.3, 'time/evaluation': 0.2, 'time/checkpoints': 0.0}
    )
    time_use.restart()
    time_use.spend_on('checkpoints')  # Evaluation went on for three.
    assert time_use.fractions() == pytest.approx(
        {'time/input': 0.0, 'time/steps': 0.0, 'time/evaluation': 0.75, 'time/checkpoints': 0.25}
    )
