"""A disk that is full when a checkpoint is to be written.

On a real full disk (needs root, or a system that lets users make mounts):

    python -m pytest tests/faults/test_full_disk.py --long
"""

import resource
import shutil
import subprocess

import pytest
import training_runs

EVERY = 10
# A checkpoint is of 70,000 parameters, their momenta and their averages: 840,000 bytes.
SETTINGS = {**training_runs.LONG, 'model.widths': (256,), 'checkpoint.every_steps': EVERY}


def test_a_checkpoint_that_does_not_fit_stops_the_run_and_leaves_the_ones_before(tmp_path):
    workdir = tmp_path / 'run'
    process = training_runs.start(workdir, SETTINGS)
    training_runs.wait_for_checkpoint(workdir, EVERY, process)
    # No file may grow beyond what is less than a checkpoint and more than all other files.
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (100_000, 100_000))
    output, _ = process.communicate(timeout=training_runs.PATIENCE)
    assert process.returncode == 1, output
    message = _error(output)
    assert message.startswith('error: a checkpoint cannot be written to')
    kept = int(message.rpartition('last checkpoint: ')[2])
    _assert_goes_on(workdir, kept)


def test_a_disk_that_is_full_stops_the_run_and_leaves_the_checkpoints_before(request, tmp_path):
    if not request.config.getoption('--long'):
        pytest.skip('makes a mount: --long')
    disk = tmp_path / 'disk'
    disk.mkdir()
    subprocess.run(['mount', '-t', 'tmpfs', '-o', 'size=2m', 'none', disk], check=True)
    try:
        output, _ = training_runs.start(disk / 'run', SETTINGS).communicate(timeout=training_runs.PATIENCE)
        assert 'No space left on device' in output
        kept = int(_error(output).rpartition('last checkpoint: ')[2])
        shutil.copytree(disk / 'run', tmp_path / 'run')
    finally:
        subprocess.run(['umount', disk], check=True)
    _assert_goes_on(tmp_path / 'run', kept)


def _error(output):
    """The one line of ours; Orbax's threads log the same failure, with tracebacks, before it and after."""
    (message,) = (line for line in output.splitlines() if line.startswith('error: '))
    return message


def _assert_goes_on(workdir, step):
    process = training_runs.start(workdir, SETTINGS)
    training_runs.wait_for_checkpoint(workdir, step + EVERY, process)
    process.terminate()
    output, _ = process.communicate(timeout=training_runs.PATIENCE)
    assert f'resuming from step {step}\n' in output
    assert 'damaged' not in output
