"""Ctrl-C and SIGTERM: before there is anything to save, in training, and in programs that save nothing."""

import os
import shutil
import signal
import subprocess
import sys
import time

import pytest
import training_runs

from nfnets.errors import Interrupted
from nfnets.train import train_and_evaluate

SETTINGS = {**training_runs.TINY, 'checkpoint.every_steps': 1000}
CODES = {signal.SIGINT: 130, signal.SIGTERM: 75}
NAMES = {signal.SIGINT: 'interrupted', signal.SIGTERM: 'preempted by SIGTERM'}


def _end(process):
    """What a process printed, its standard error among it."""
    output, _ = process.communicate(timeout=training_runs.PATIENCE)
    assert 'Traceback' not in output
    return output


@pytest.mark.parametrize('number', CODES)
def test_a_run_saves_and_the_same_command_resumes_bit_equal(number, undisturbed, tmp_path):
    workdir = tmp_path / 'run'
    process = training_runs.start(workdir, SETTINGS)
    training_runs.wait_for_step(workdir, 1, process)
    process.send_signal(number)
    output = _end(process)
    assert process.returncode == CODES[number], output
    (saved,) = [int(path.name) for path in (workdir / 'checkpoints').iterdir()]
    assert 1 <= saved < 12
    assert f'error: {NAMES[number]}: saved at step {saved}, where the same command resumes' in output
    again = training_runs.finish(training_runs.start(workdir, SETTINGS))
    assert f'resuming from step {saved}' in again
    training_runs.assert_equal(workdir, undisturbed[0])
    assert training_runs.metrics(workdir) == training_runs.metrics(undisturbed[0])


# Many blocks, each compiled for itself with all optimizations: half a minute and more.
SLOW_TO_COMPILE = {**SETTINGS, 'model.depths': (20, 20)}


@pytest.mark.parametrize('number', CODES)
def test_while_compiling_a_run_ends_at_once_with_one_line(number, tmp_path, monkeypatch):
    monkeypatch.setenv('JAX_ENABLE_COMPILATION_CACHE', 'false')
    monkeypatch.setenv('JAX_DISABLE_MOST_OPTIMIZATIONS', 'false')
    process = training_runs.start(tmp_path / 'run', SLOW_TO_COMPILE, devices=1)
    training_runs.wait_for(tmp_path / 'run' / 'metrics.jsonl', process)  # Opened before the first step.
    time.sleep(15)  # Traced by now, and not compiled.
    began = time.monotonic()
    process.send_signal(number)
    output = _end(process)
    assert time.monotonic() - began < 2
    assert process.returncode == CODES[number], output
    told = output.rstrip().splitlines()[-1]
    assert told == (
        f'error: {NAMES[number]} before the first step was done, nothing to save; last checkpoint: none'
    )


def test_what_is_resumed_from_is_named_where_nothing_was_done_since(undisturbed, tmp_path):
    shutil.copytree(undisturbed[0], tmp_path / 'run')
    shutil.rmtree(tmp_path / 'run' / 'checkpoints' / '12')
    (tmp_path / 'run' / 'lock').unlink()
    process = training_runs.start(tmp_path / 'run', SETTINGS)
    training_runs.wait_for(tmp_path / 'run' / 'lock', process)
    process.send_signal(signal.SIGINT)
    output = _end(process)
    assert output.endswith('nothing to save; last checkpoint: 8\n')
    assert process.returncode == 130


def test_a_second_ctrl_c_does_not_wait(tmp_path):
    """The evaluation, which the first waits for, is of many images."""
    program = """
import sys, time
from nfnets import cli
from nfnets.interrupts import Preemption
def main():
    preemption = Preemption(lambda: '400')
    preemption.has_progress = True
    print('ready', flush=True)
    while not preemption.is_due(0):
        time.sleep(0.01)
    print('asked', flush=True)
    time.sleep(60)
cli.guard(main)
"""
    process = _start(program)
    assert process.stdout.readline() == 'ready\n'
    process.send_signal(signal.SIGINT)
    assert process.stdout.readline() == 'asked\n'
    process.send_signal(signal.SIGTERM)  # What was asked before is under way: no reason to hurry.
    time.sleep(0.3)
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    output = _end(process)
    assert 'error: interrupted twice, and ended without saving; last checkpoint: 400' in output
    assert process.returncode == 130


def _start(program):
    return subprocess.Popen(
        [sys.executable, '-c', program],
        cwd=training_runs.ROOT,
        env={**os.environ, 'PYTHONPATH': str(training_runs.ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def test_any_program_ends_with_one_line():
    program = """
import time
from nfnets import cli
def main():
    print('ready', flush=True)
    time.sleep(60)
cli.guard(main)
"""
    process = _start(program)
    assert process.stdout.readline() == 'ready\n'
    process.send_signal(signal.SIGINT)
    assert _end(process) == '\nerror: interrupted\n'
    assert process.returncode == 130


def test_a_signal_counts_once_though_an_event_loop_takes_the_wake_up(monkeypatch):
    program = """
import asyncio, os, signal, time, uvloop
from nfnets.interrupts import SignalWatch
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
    time.sleep(1)
except KeyboardInterrupt:
    print('as before')
"""
    assert _end(_start(program)) == 'as before\n'


def test_a_run_called_from_python_leaves_the_signals_as_they_were(tmp_path, monkeypatch):
    before = [signal.getsignal(number) for number in CODES]

    def interrupt(*args):
        os.kill(os.getpid(), signal.SIGINT)
        return {}

    monkeypatch.setattr('nfnets.train.flat_results', interrupt)  # Called after the first evaluation.
    with pytest.raises(Interrupted, match='saved at step 6'):
        train_and_evaluate(training_runs.config(training_runs.TINY), tmp_path / 'run')
    assert [signal.getsignal(number) for number in CODES] == before
