"""Several processes on this machine in place of a pod's hosts."""

import json
import shutil
import signal
import time
from concurrent.futures import ThreadPoolExecutor

import forge
import jax
import orbax.checkpoint as ocp
import pytest
import training_runs

from nfnets import build
from nfnets.config import complete, flatten
from nfnets.data.digits import DigitsSource
from nfnets.errors import InputError, TrainingStopped
from nfnets.planning import precheck
from nfnets.run import processes as processes_lib
from nfnets.train import train_and_evaluate

SETTINGS = {
    **training_runs.TINY,
    **training_runs.NOT_RANDOM,
    'train.batch_size': 48,  # For 8 devices and for 6.
    'eval.batch_size': 48,  # Does not divide the 360 images.
}
SHARDED = {**SETTINGS, 'train.shard_optimizer': True}
PROBED = {'probe.source': 'digits', 'probe.eval_split': 'eval', 'probe.shots': (1, 5)}
END = {'position': 12 * 48}
START_AGAIN = 75
LOST = {0: 'leader task', 1: 'unhealthy (stopped sending heartbeats):\n1\n'}


@pytest.fixture(scope='module')
def left_behind(tmp_path_factory):
    """(the other, when that was, a future of when the other ends) of each process of two that is killed."""
    started = []
    for lost in LOST:
        workdir = tmp_path_factory.mktemp('lost') / 'run'
        started.append((lost, workdir, training_runs.start_several(2, 2, workdir, training_runs.LONG)))
    others, watchers = [], ThreadPoolExecutor(len(LOST))
    for lost, workdir, processes in started:
        training_runs.wait_for_checkpoint(workdir, 4, processes[0])
        processes[lost].send_signal(signal.SIGKILL)
        processes[lost].communicate()
        killed, other = time.monotonic(), processes[1 - lost]
        others.append((other, killed, watchers.submit(other.watch_end, 60)))
    return others


@pytest.fixture(scope='module')
def one_process(tmp_path_factory):
    workdir = tmp_path_factory.mktemp('one') / 'run'
    training_runs.train(workdir, {**SETTINGS, **PROBED})
    return workdir


@pytest.fixture(scope='module')
def two_processes(tmp_path_factory):
    workdir = tmp_path_factory.mktemp('two') / 'run'
    processes = training_runs.start_several(2, 4, workdir, {**SHARDED, **PROBED})
    outputs = [training_runs.finish(process) for process in processes]
    return workdir, outputs


@pytest.mark.usefixtures('left_behind')  # They wait beside all other tests.
def test_two_processes_of_four_devices_train_as_one_of_eight(one_process, two_processes):
    workdir, outputs = two_processes
    training_runs.assert_close(workdir, one_process)
    assert training_runs.state(workdir)[1] == END
    lines, expected_lines = training_runs.metrics(workdir), training_runs.metrics(one_process)
    assert [line['step'] for line in lines] == [line['step'] for line in expected_lines]
    assert lines[-1]['eval/num_examples'] == 360  # A fifth of 1,797.
    assert lines[-1]['eval/loss'] == pytest.approx(expected_lines[-1]['eval/loss'], rel=1e-5)
    for name in ('probe/1_shot', 'probe/5_shot'):
        assert lines[-1][name] == pytest.approx(expected_lines[-1][name], abs=1.5 / 360)
    assert str(workdir) in outputs[0]
    assert str(workdir) not in outputs[1]  # Process 0 alone reports and writes.
    assert len(list(workdir.glob('events.out.tfevents.*'))) == 1


def test_two_processes_evaluate_as_the_run_did(one_process):
    arguments = (f'--checkpoint={one_process}', '--ema', '--json', '--config.eval.batch_size=48')
    evaluations = [
        forge.start('evaluate', (*arguments, *joining), changed=training_runs.environment(4), is_apart=True)
        for joining in training_runs.joining(2)
    ]
    printed = [evaluation.communicate(timeout=training_runs.PATIENCE) for evaluation in evaluations]
    assert [evaluation.returncode for evaluation in evaluations] == [0, 0], printed
    # Gloo prints lines of its own.
    objects = [[x for x in output.splitlines() if x.startswith('{')] for output, _ in printed]
    assert [len(lines) for lines in objects] == [1, 0]  # Process 0 alone reports.
    result, expected = json.loads(objects[0][0]), training_runs.metrics(one_process)[-1]
    assert result['num_examples'] == 360
    assert result['top_1'] == expected['eval_ema/top_1']
    assert result['loss'] == pytest.approx(expected['eval_ema/loss'], rel=1e-5)


def test_two_processes_of_four_devices_normalize_batches_as_one_of_eight(tmp_path):
    settings = {**SETTINGS, **training_runs.BN_NET, 'train.steps': 4, 'eval.every_steps': 4}
    processes = training_runs.start_several(2, 4, tmp_path / 'two', settings)
    training_runs.train(tmp_path / 'one', settings)
    for process in processes:
        training_runs.finish(process)
    training_runs.assert_close(tmp_path / 'two', tmp_path / 'one')
    statistics = [
        name
        for name in training_runs.state(tmp_path / 'two')[0]
        if 'network_state' in name and name.endswith("['average']")
    ]
    # Of mean and variance before the 8 activations, 3 in the stem and 4 in the block; and averages of them.
    assert len(statistics) == 2 * 2 * 8
    assert sum("'ema_network_state'" in name for name in statistics) == 2 * 8
    results, expected = (
        training_runs.metrics(tmp_path / name)[-1]['eval_ema/loss'] for name in ('two', 'one')
    )
    assert results == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize('processes', [1, 2])
def test_a_checkpoint_of_two_processes_resumes_on_other_devices(
    processes, one_process, two_processes, tmp_path, capfd
):
    workdir = tmp_path / 'run'
    shutil.copytree(two_processes[0], workdir)
    shutil.rmtree(workdir / 'checkpoints' / '12')
    if processes == 1:  # This one, of eight devices.
        training_runs.train(workdir, SETTINGS)
        messages = capfd.readouterr().out
    else:
        messages, *_ = map(training_runs.finish, training_runs.start_several(processes, 3, workdir, SHARDED))
    assert 'resuming from step 8\n' in messages
    training_runs.assert_close(workdir, one_process)
    assert training_runs.metrics(workdir)[-1]['eval/num_examples'] == 360


def test_sigterm_to_one_process_ends_all_at_the_same_step(two_processes, tmp_path):
    workdir = tmp_path / 'run'
    processes = training_runs.start_several(2, 4, workdir, SHARDED)
    training_runs.wait_for_step(workdir, 1, processes[0])
    processes[1].send_signal(signal.SIGTERM)
    outputs = [process.communicate(timeout=training_runs.PATIENCE)[0] for process in processes]
    assert [process.returncode for process in processes] == [START_AGAIN] * 2, outputs
    saved = max(int(path.name) for path in (workdir / 'checkpoints').iterdir())
    assert all(f'preempted by SIGTERM: saved at step {saved},' in output for output in outputs)
    training_runs.train(workdir, SETTINGS)
    training_runs.assert_close(workdir, two_processes[0])


def _errors(processes):
    """What each process ended with, of those that could not start together."""
    outputs = [process.communicate(timeout=training_runs.PATIENCE)[0] for process in processes]
    assert [process.returncode for process in processes] == [2] * len(processes), outputs
    assert not any('Traceback' in output for output in outputs)
    return [line for output in outputs for line in output.splitlines() if line.startswith('error: ')]


def test_processes_with_other_flags_end_with_what_differs(tmp_path):
    others = [{**SETTINGS, 'optimizer.momentum': 0.9}, {**SETTINGS, 'optimizer.momentum': 0.8}]
    messages = _errors(training_runs.start_several(2, 1, tmp_path / 'run', others))
    assert len(messages) == 2
    assert 'optimizer.momentum is 0.9 on process 0, and 0.8 on process 1' in messages[0]
    assert not (tmp_path / 'run').exists()


def test_processes_whose_workdirs_are_not_one_end_before_anything_is_written(two_processes, tmp_path):
    workdirs = [tmp_path / 'first', tmp_path / 'second']
    messages = _errors(training_runs.start_several(2, 1, workdirs, SETTINGS))
    assert 'is not the same directory on all processes: process 1 does not see' in messages[0]
    assert not [path for path in (tmp_path / 'first').iterdir() if path.name != 'lock']
    # One of them has a checkpoint, and would resume alone.
    shutil.copytree(two_processes[0], tmp_path / 'third')
    messages = _errors(training_runs.start_several(2, 1, [workdirs[0], tmp_path / 'third'], SETTINGS))
    assert 'the last checkpoint in workdir is None on process 0, and 12 on process 1' in messages[0]


@pytest.fixture
def two(monkeypatch):
    """Makes this process the first of two, of which the other has given facts or sees another directory."""

    def other(answer):
        monkeypatch.setattr(processes_lib, '_gather', lambda text: [text, answer(text)])
        monkeypatch.setattr(jax, 'process_count', lambda: 2)

    return other


@pytest.mark.parametrize(
    ('name', 'value', 'there'),
    [
        ('the code of nfnets, by its digest,', 'aaaa', 'bbbb'),
        ('the last checkpoint in workdir', 8, 4),
        ('the number of training images', 1437, 1436),
        ('the digest of the class names', 'aaaa', 'bbbb'),
        ('sam.rho', 0.0, None),  # A setting that the other's code does not have.
    ],
)
def test_each_fact_that_differs_is_named_with_both_values(name, value, there, two):
    facts = {'seed': 0, name: value}
    two(lambda text: json.dumps({**json.loads(text), name: there}))
    with pytest.raises(InputError, match=f'{name} is {value} on process 0, and {there} on process 1'):
        processes_lib.require_same(facts)
    two(lambda text: text)
    processes_lib.require_same(facts)


def test_what_is_compared_is_every_setting_but_where_the_data_lies_the_code_and_the_data():
    config = training_runs.config({**training_runs.TINY, 'data.dir': '/here'})
    config = complete(config, num_examples=1437, num_classes=10, num_devices=1)
    train, evaluation = DigitsSource('train'), DigitsSource('eval')
    facts = precheck.facts(config, train, evaluation, [4, 8], 'a1')
    settings = {key for key in flatten(config.to_dict()) if key not in ('data.dir', 'probe.dir')}
    assert settings < facts.keys()
    assert '/here' not in facts.values()
    assert facts['the last checkpoint in workdir'] == 8
    assert facts['the number of training images'] == 1437
    assert facts['the number of evaluation images'] == 360
    train.class_names = ('0',) * 10
    other = precheck.facts(config, train, evaluation, [4, 8], 'b2')
    differ = ['the SHA-256 of init_from', 'the digest of the class names']
    assert sorted(key for key in facts if facts[key] != other[key]) == differ


def test_a_step_that_fails_for_a_lost_process_waits_for_jax_to_name_it(monkeypatch):
    waited = []
    monkeypatch.setattr(time, 'sleep', waited.append)
    error = processes_lib.stopped_by_lost_process(7, RuntimeError('Gloo: connection\nclosed by peer'))
    assert str(error) == 'step 7 failed in a distributed run: Gloo: connection closed by peer'
    assert waited == [60]  # Twice what JAX waits for a heartbeat.


@pytest.mark.parametrize('place', ['step', 'save'])
def test_when_a_step_fails_for_a_lost_process_nothing_is_computed_together(place, tmp_path, monkeypatch):
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
    with pytest.raises(TrainingStopped, match=r'step \d failed in a distributed run: .* closed by peer'):
        train_and_evaluate(training_runs.config(SETTINGS), tmp_path / 'run')
    assert events == ['waits 60 s']


@pytest.mark.parametrize(
    ('given', 'message'),
    [
        (('host:1', None, 0), '--num-processes'),
        (('host', 2, 0), 'HOST:PORT'),
        (('host:99999', 2, 0), 'coordinator=host:99999 .* below 65536'),
        (('host:1', 2, 2), '--process-id=2'),
    ],
)
def test_what_cannot_be_joined_is_named(given, message):
    with pytest.raises(InputError, match=message):
        processes_lib.join(*given)


@pytest.mark.parametrize('lost', LOST)
def test_the_others_of_a_lost_process_end_within_a_minute_and_name_it(lost, left_behind):
    other, killed, end = left_behind[lost]
    output, _ = other.communicate(timeout=120)
    assert end.result() - killed < 60
    assert other.returncode != 0
    assert LOST[lost] in output
    assert 'Thread 0x' not in output  # No stacks of threads around it.
