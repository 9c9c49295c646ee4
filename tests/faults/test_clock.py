"""A clock that goes backwards."""

import itertools
import time

import training_runs


def test_a_clock_that_goes_backwards_changes_nothing(undisturbed, tmp_path, monkeypatch):
    began, calls = time.time(), itertools.count()
    monkeypatch.setattr(time, 'time', lambda: began - 60.0 * next(calls))
    training_runs.train(tmp_path / 'run', training_runs.TINY)
    assert next(calls) > 10  # It was asked.
    training_runs.assert_equal(tmp_path / 'run', undisturbed[0])
    assert training_runs.metrics(tmp_path / 'run') == training_runs.metrics(undisturbed[0])
