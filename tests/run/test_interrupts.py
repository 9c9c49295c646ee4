"""Ctrl-C and SIGTERM: before there is anything to save, in training, and in programs that save nothing."""

import os
import shutil
import signal
import time

import forge
import pytest
import training_runs

from nfnets.errors import Interrupted

CODES = {signal.SIGINT: 130, signal.SIGTERM: 75}
NAMES = {signal.SIGINT: 'interrupted', signal.SIGTERM: 'preempted by SIGTERM'}


def _end(process):
    """What a process printed, its standard error among it."""
    output, _ = process.communicate(timeout=training_runs.PATIENCE)
    assert 'Traceback' not in output
    return output


@pytest.mark.parametrize('number', CODES)
def test_a_run_saves_and_the_same_command_resumes_bit_equal(number, undisturbed, tmp_path, capfd):
    workdir = tmp_path / 'run'
    process = training_runs.start(workdir, training_runs.TINY)
    training_runs.wait_for_step(workdir, 1, process)
    process.send_signal(number)
    output = _end(process)
    assert process.returncode == CODES[number], output
    saved = max(int(path.name) for path in (workdir / 'checkpoints').iterdir())
    assert 1 <= saved < 12
    assert f'error: {NAMES[number]}: saved at step {saved}, where the same command resumes' in output
    training_runs.train(workdir, training_runs.TINY)
    assert f'resuming from step {saved}\n' in capfd.readouterr().out
    training_runs.assert_equal(workdir, undisturbed[0])
    assert training_runs.metrics(workdir) == training_runs.metrics(undisturbed[0])


@pytest.mark.parametrize('number', CODES)
def test_while_compiling_a_run_ends_at_once_with_one_line(number, tmp_path, monkeypatch):
    monkeypatch.setenv('JAX_LOG_COMPILES', 'true')
    settings = {**training_runs.TINY, 'optimizer.momentum': 0.8}  # Not compiled yet: it takes seconds.
    process = training_runs.start(tmp_path / 'run', settings)
    training_runs.wait_for(tmp_path / 'run' / 'metrics.jsonl', process)  # Opened before the first step.
    process.wait_until_printed('MLIR module conversion jit(_fun)')  # What XLA compiles next is the step.
    time.sleep(0.3)
    began = time.monotonic()
    process.send_signal(number)
    output = _end(process)
    assert time.monotonic() - began < 2
    assert process.returncode == CODES[number], output
    assert 'Finished XLA compilation of jit(_fun)' not in output
    message = output.rstrip().splitlines()[-1]
    assert message == (
        f'error: {NAMES[number]} before the first step was done, nothing to save; last checkpoint: none'
    )


def test_what_is_resumed_from_is_named_where_nothing_was_done_since(undisturbed, tmp_path):
    shutil.copytree(undisturbed[0], tmp_path / 'run')
    shutil.rmtree(tmp_path / 'run' / 'checkpoints' / '12')
    (tmp_path / 'run' / 'lock').unlink()
    process = training_runs.start(tmp_path / 'run', training_runs.TINY)
    training_runs.wait_for(tmp_path / 'run' / 'lock', process)
    process.send_signal(signal.SIGINT)
    output = _end(process)
    assert output.endswith('nothing to save; last checkpoint: 8\n')
    assert process.returncode == 130


def test_a_second_ctrl_c_does_not_wait(tmp_path):
    """The evaluation, which the first waits for, is of many images."""
    program = """
import time
from nfnets.commands.command_line import run
from nfnets.run.interrupts import Preemption
def main(argv):
    preemption = Preemption(lambda: '400')
    preemption.has_progress = True
    print('ready', flush=True)
    while not preemption.is_due(0):
        time.sleep(0.01)
    print('asked', flush=True)
    time.sleep(60)
run(main, [])
"""
    process = forge.start_program(program)
    process.wait_until_printed('ready\n')
    process.send_signal(signal.SIGINT)
    process.wait_until_printed('asked\n')
    process.send_signal(signal.SIGTERM)  # What was asked before is under way: no reason to hurry.
    time.sleep(0.3)
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    output = _end(process)
    assert 'error: interrupted twice, and ended without saving; last checkpoint: 400' in output
    assert process.returncode == 130


def test_a_signal_does_not_wait_for_what_the_main_thread_holds():
    """Orbax takes a lock of `concurrent.futures` to list checkpoints, which the main thread also does."""
    program = """
import os, signal, threading, time
from nfnets.run.interrupts import Preemption
lock = threading.Lock()
def last_checkpoint():
    with lock:
        return '400'
preemption = Preemption(last_checkpoint)
with lock:
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(0.1)
    print('on its way', flush=True)
time.sleep(60)
"""
    process = forge.start_program(program)
    output, _ = process.communicate(timeout=20)
    assert output.startswith('on its way\n')
    assert output.endswith('nothing to save; last checkpoint: 400\n')
    assert process.returncode == 130


def test_any_program_ends_with_one_line():
    program = """
import time
from nfnets.commands.command_line import run
def main(argv):
    print('ready', flush=True)
    time.sleep(60)
run(main, [])
"""
    process = forge.start_program(program)
    process.wait_until_printed('ready\n')
    process.send_signal(signal.SIGINT)
    assert _end(process) == 'ready\n\nerror: interrupted\n'
    assert process.returncode == 130


def test_a_signal_counts_once_though_an_event_loop_takes_the_wake_up():
    program = """
import asyncio, os, signal, time, uvloop
from nfnets.run.interrupts import SignalWatch
seen = []
watch = SignalWatch([signal.SIGINT], seen.append)
async def interrupted():
    os.kill(os.getpid(), signal.SIGINT)
    await asyncio.sleep(0.2)
uvloop.run(interrupted())
assert len(seen) == 1, seen
os.kill(os.getpid(), signal.SIGINT)
time.sleep(0.2)
assert len(seen) == 2, seen
watch.close()
try:
    os.kill(os.getpid(), signal.SIGINT)
    while True:  # Another thread may be the one that the signal interrupts.
        time.sleep(0.05)
except KeyboardInterrupt:
    print('as before')
"""
    assert _end(forge.start_program(program)) == 'as before\n'


def test_a_run_called_from_python_leaves_the_signals_as_they_were(tmp_path, monkeypatch):
    before = [signal.getsignal(number) for number in CODES]

    def interrupt(*args):
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.2)  # Another thread takes it.
        return {}

    monkeypatch.setattr('nfnets.train.flat_results', interrupt)  # Called after the first evaluation.
    with pytest.raises(Interrupted, match='saved at step 6'):
        training_runs.train(tmp_path / 'run', training_runs.TINY)
    assert [signal.getsignal(number) for number in CODES] == before
