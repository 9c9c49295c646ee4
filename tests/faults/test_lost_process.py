"""A process that is killed while the others of its run wait for it."""

import signal
import time

import jax
import orbax.checkpoint as ocp
import pytest
import training_runs

from nfnets import build
from nfnets.errors import TrainingStopped
from nfnets.train import train_and_evaluate

NAMES = {0: 'leader task', 1: 'unhealthy (stopped sending heartbeats):\n1\n'}


@pytest.fixture(scope='module')
def runs(tmp_path_factory):
    """Two runs of two processes, of which the first and the second are lost, and when; they wait together."""
    started = []
    for lost in (0, 1):
        workdir = tmp_path_factory.mktemp('lost') / 'run'
        started.append((lost, workdir, training_runs.start_several(2, 2, workdir, training_runs.LONG)))
    runs = []
    for lost, workdir, processes in started:
        training_runs.wait_for(workdir / 'checkpoints' / '4', processes[0])
        processes[lost].send_signal(signal.SIGKILL)
        processes[lost].communicate()
        runs.append((processes[1 - lost], time.monotonic()))
    return runs


@pytest.mark.usefixtures('runs')  # They wait meanwhile.
@pytest.mark.parametrize('place', ['step', 'save'])
def test_after_a_step_that_fails_for_it_nothing_is_computed_together(place, tmp_path, monkeypatch):
    """Closing Orbax's manager is: it met what was left of a step, 64 bytes where it sent 4."""
    events = []

    def lose(*args, **kwargs):
        monkeypatch.setattr(jax, 'process_count', lambda: 2)
        monkeypatch.setattr(time, 'sleep', lambda seconds: events.append(f'waits {seconds} s'))
        raise jax.errors.JaxRuntimeError('UNKNOWN: Gloo all-reduce failed: Connection closed by peer')

    if place == 'step':
        monkeypatch.setattr(build, 'train_step', lambda config: lose)
    else:
        monkeypatch.setattr(ocp.CheckpointManager, 'save', lose)
    monkeypatch.setattr(ocp.CheckpointManager, 'close', lambda self: events.append('closes'))
    with pytest.raises(TrainingStopped, match=r'step \d failed on several processes: .* closed by peer'):
        train_and_evaluate(training_runs.config(training_runs.TINY), tmp_path / 'run')
    assert events == ['waits 60 s']


@pytest.mark.parametrize('lost', [0, 1])
def test_the_others_end_within_a_minute_and_name_it(lost, runs):
    other, began = runs[lost]
    output, _ = other.communicate(timeout=120)
    assert time.monotonic() - began < 60
    assert other.returncode != 0
    assert NAMES[lost] in output
    assert 'Thread 0x' not in output  # No stacks of threads around it.
