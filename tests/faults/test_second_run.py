"""A run started twice in one working directory at once."""

import pytest
import training_runs

from nfnets.errors import InputError
from nfnets.train import train_and_evaluate


def test_a_second_run_in_a_workdir_is_refused_while_the_first_is_under_way(tmp_path):
    workdir = tmp_path / 'run'
    settings = {
        **training_runs.TINY,
        'train.steps': 100,
        'eval.every_steps': 100,
        'checkpoint.every_steps': 100,
    }
    process = training_runs.start(workdir, settings)
    training_runs.wait_for(workdir / 'config.json', process)
    with pytest.raises(InputError, match='is in use by a run that is under way'):
        train_and_evaluate(training_runs.config(settings), workdir)
    training_runs.finish(process)  # As if nothing had been.
    assert [line['step'] for line in training_runs.metrics(workdir) if 'train/loss' in line] == list(
        range(1, 101)
    )
