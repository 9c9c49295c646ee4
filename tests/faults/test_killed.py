"""A run that is killed without warning.

Twenty times at random moments: python -m pytest tests/faults/test_killed.py --long
"""

import signal

import numpy as np
import pytest
import training_runs


def _kill(process):
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL, 'the run ended before it could be killed'


def test_a_run_killed_while_it_writes_a_checkpoint_ends_bit_equal_to_an_undisturbed_one(
    undisturbed, tmp_path, capfd
):
    workdir = tmp_path / 'run'
    process = training_runs.start(workdir, training_runs.TINY)
    # It is there under this name for less than a tenth of a second.
    training_runs.wait_for(workdir / 'checkpoints' / '8.orbax-checkpoint-tmp', process)
    _kill(process)
    training_runs.train(workdir, training_runs.TINY)
    assert 'resuming from step 4\n' in capfd.readouterr().out
    training_runs.assert_equal(workdir, undisturbed[0])
    assert training_runs.state(workdir)[1] == {'position': 12 * 64}
    assert training_runs.metrics(workdir) == training_runs.metrics(undisturbed[0])


def test_a_run_killed_twenty_times_ends_bit_equal_to_an_undisturbed_one(request, tmp_path):
    if not request.config.getoption('--long'):
        pytest.skip('takes minutes: --long')
    settings = {
        **training_runs.TINY,
        'train.steps': 400,
        'checkpoint.every_steps': 5,
        'eval.every_steps': 100,
    }
    training_runs.finish(training_runs.start(tmp_path / 'undisturbed', settings))
    rng = np.random.default_rng(0)
    workdir = tmp_path / 'run'
    for _ in range(20):
        process = training_runs.start(workdir, settings)
        before = workdir / 'checkpoints'
        steps = len(list(before.iterdir())) if before.exists() else 0
        try:
            process.wait(rng.uniform(2, 15))  # Seconds: from the start of Python to some hundred steps.
        except training_runs.subprocess.TimeoutExpired:
            _kill(process)
        print(f'killed with {steps} entries in checkpoints/')
    training_runs.finish(training_runs.start(workdir, settings))
    training_runs.assert_equal(workdir, tmp_path / 'undisturbed')
    assert training_runs.metrics(workdir) == training_runs.metrics(tmp_path / 'undisturbed')
