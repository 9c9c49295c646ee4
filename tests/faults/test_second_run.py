"""A run started twice in one working directory at once."""

import signal

import pytest
import training_runs

from nfnets.errors import InputError


def test_a_second_run_in_a_workdir_is_refused_while_the_first_is_under_way(undisturbed, tmp_path):
    workdir = tmp_path / 'run'
    process = training_runs.start(workdir, training_runs.TINY)
    training_runs.wait_for(workdir / 'config.json', process)
    process.send_signal(signal.SIGSTOP)  # Lest it ends before the second begins.
    with pytest.raises(InputError, match='is in use by a run that is under way'):
        training_runs.train(workdir, training_runs.TINY)
    process.send_signal(signal.SIGCONT)
    training_runs.finish(process)  # As if nothing had been.
    assert training_runs.metrics(workdir) == training_runs.metrics(undisturbed[0])
