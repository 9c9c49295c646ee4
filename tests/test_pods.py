"""Several processes on this machine in place of a pod's hosts, and runs that are asked to end."""

import shutil
import signal

import pytest
import training_runs

from nfnets import pods
from nfnets.errors import InputError

SETTINGS = {
    **training_runs.TINY,
    **training_runs.NOT_RANDOM,
    'train.batch_size': 48,  # For 8 devices and for 6.
    'eval.batch_size': 48,  # Does not divide the 360 images.
}
END = {'position': 12 * 48}
START_AGAIN = 75


@pytest.fixture(scope='module')
def one_process(tmp_path_factory):
    workdir = tmp_path_factory.mktemp('one') / 'run'
    training_runs.finish(training_runs.start(workdir, SETTINGS))
    return workdir


@pytest.fixture(scope='module')
def two_processes(tmp_path_factory):
    workdir = tmp_path_factory.mktemp('two') / 'run'
    outputs = [
        training_runs.finish(process) for process in training_runs.start_several(2, 4, workdir, SETTINGS)
    ]
    return workdir, outputs


def test_two_processes_of_four_devices_train_as_one_of_eight(one_process, two_processes):
    workdir, outputs = two_processes
    training_runs.assert_close(workdir, one_process)
    assert training_runs.state(workdir)[1] == END
    lines, expected_lines = training_runs.metrics(workdir), training_runs.metrics(one_process)
    assert [line['step'] for line in lines] == [line['step'] for line in expected_lines]
    assert lines[-1]['eval/num_examples'] == 360  # A fifth of 1,797.
    assert lines[-1]['eval/loss'] == pytest.approx(expected_lines[-1]['eval/loss'], rel=1e-5)
    assert str(workdir) in outputs[0]
    assert str(workdir) not in outputs[1]  # Process 0 alone reports and writes.
    assert len(list(workdir.glob('events.out.tfevents.*'))) == 1


@pytest.mark.parametrize('processes', [1, 3])
def test_others_go_on_from_a_checkpoint_of_two_on_other_devices(
    processes, one_process, two_processes, tmp_path
):
    workdir = tmp_path / 'run'
    shutil.copytree(two_processes[0], workdir)
    shutil.rmtree(workdir / 'checkpoints' / '12')
    outputs = [
        training_runs.finish(process)
        for process in training_runs.start_several(processes, 2, workdir, SETTINGS)
    ]
    assert 'going on from step 8' in outputs[0]
    training_runs.assert_close(workdir, one_process)
    assert training_runs.metrics(workdir)[-1]['eval/num_examples'] == 360


def test_asked_to_end_a_run_saves_and_the_same_command_goes_on_bit_equal(one_process, tmp_path):
    workdir = tmp_path / 'run'
    process = training_runs.start(workdir, {**SETTINGS, 'checkpoint.every_steps': 1000})
    training_runs.wait_for(workdir / 'metrics.jsonl', process)
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=training_runs.PATIENCE)
    assert process.returncode == START_AGAIN, output
    assert 'asked to end: saved at step' in output
    (saved,) = [int(path.name) for path in (workdir / 'checkpoints').iterdir()]
    assert 1 <= saved < 12
    assert f'going on from step {saved}' in training_runs.finish(training_runs.start(workdir, SETTINGS))
    training_runs.assert_equal(workdir, one_process)


def test_asked_to_end_one_process_ends_all_at_the_same_step(two_processes, tmp_path):
    workdir = tmp_path / 'run'
    processes = training_runs.start_several(2, 4, workdir, {**SETTINGS, 'checkpoint.every_steps': 1000})
    training_runs.wait_for(workdir / 'metrics.jsonl', processes[0])
    processes[1].send_signal(signal.SIGTERM)
    outputs = [process.communicate(timeout=training_runs.PATIENCE)[0] for process in processes]
    assert [process.returncode for process in processes] == [START_AGAIN] * 2, outputs
    (saved,) = [int(path.name) for path in (workdir / 'checkpoints').iterdir()]
    assert all(f'saved at step {saved},' in output for output in outputs)
    for process in training_runs.start_several(2, 4, workdir, SETTINGS):
        training_runs.finish(process)
    training_runs.assert_equal(workdir, two_processes[0])


@pytest.mark.parametrize(
    ('given', 'message'),
    [
        (('host:1', None, 0), '--num-processes'),
        (('host', 2, 0), 'HOST:PORT'),
        (('host:1', 2, 2), '--process-id=2'),
    ],
)
def test_what_cannot_be_joined_is_named(given, message):
    with pytest.raises(InputError, match=message):
        pods.join(*given)
