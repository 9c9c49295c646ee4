"""A process that is killed while the others of its run wait for it."""

import signal
import time

import pytest
import training_runs

SETTINGS = {**training_runs.TINY, 'train.steps': 100_000, 'eval.every_steps': 100_000}
NAMES = {0: 'leader task', 1: 'unhealthy (stopped sending heartbeats):\n1\n'}


@pytest.mark.parametrize('lost', [0, 1])
def test_the_others_end_within_a_minute_and_name_it(lost, tmp_path):
    processes = training_runs.start_several(2, 2, tmp_path / 'run', SETTINGS)
    training_runs.wait_for(tmp_path / 'run' / 'checkpoints' / '4', processes[0])
    processes[lost].send_signal(signal.SIGKILL)
    processes[lost].communicate()
    began = time.monotonic()
    output, _ = processes[1 - lost].communicate(timeout=120)
    assert time.monotonic() - began < 60
    assert processes[1 - lost].returncode != 0
    assert NAMES[lost] in output
    assert 'Thread 0x' not in output  # No stacks of threads around it.
