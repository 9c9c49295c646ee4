"""A clock that goes backwards."""

import itertools
import time

import training_runs

from nfnets.train import train_and_evaluate


def test_a_clock_that_goes_backwards_changes_nothing(undisturbed, tmp_path, monkeypatch):
    began, calls = time.time(), itertools.count()
    monkeypatch.setattr(time, 'time', lambda: began - 60.0 * next(calls))
    train_and_evaluate(training_runs.config(training_runs.TINY), tmp_path / 'run')
    assert next(calls) > 10  # It was asked.
    training_runs.assert_equal(tmp_path / 'run', undisturbed[0])
    assert training_runs.metrics(tmp_path / 'run') == training_runs.metrics(undisturbed[0])
