"""Whole runs of `scripts/train.py`, and what they leave."""

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import orbax.checkpoint as ocp

from configs import digits

ROOT = Path(__file__).resolve().parents[1]
TINY = {
    'model.widths': (16, 32),
    'model.depths': (1, 1),
    'model.group_width': 8,
    'data.train_size': 16,
    'data.eval_size': 16,
    'train.batch_size': 64,
    'train.steps': 12,
    'train.log_every_steps': 1,
    'optimizer.warmup_steps': 3.0,
    'eval.batch_size': 80,
    'eval.every_steps': 6,
    'checkpoint.every_steps': 4,
}
PATIENCE = 600  # Seconds; what takes longer hangs.
# Nothing that depends on how the batch falls to devices.
NOT_RANDOM = {
    'augment.mixup_alpha': 0.0,
    'model.dropout_rate': 0.0,
    'model.stochastic_depth_rate': 0.0,
}


def config(settings):
    result = digits.get_config()
    result.update_from_flattened_dict(settings)
    return result


def start(workdir, settings, devices=8, config='configs/digits.py', arguments=(), before=()):
    """A run in a process of its own; `before` stands before its command line."""
    flags = [f'--config.{key}={value}' for key, value in settings.items()]
    command = [*before, sys.executable, str(ROOT / 'scripts' / 'train.py'), f'--config={config}']
    environment = dict(os.environ)
    environment['XLA_FLAGS'] = f'--xla_force_host_platform_device_count={devices}'
    return subprocess.Popen(
        [*command, f'--workdir={workdir}', *flags, *arguments],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def start_several(processes, devices, workdir, settings, config='configs/digits.py'):
    """One run in several processes of so many devices each; lists give each its own workdir or settings."""
    workdirs = workdir if isinstance(workdir, list) else [workdir] * processes
    every = settings if isinstance(settings, list) else [settings] * processes
    with socket.socket() as free:
        free.bind(('localhost', 0))
        port = free.getsockname()[1]
    joined = (f'--coordinator=localhost:{port}', f'--num-processes={processes}')
    return [
        start(workdirs[index], every[index], devices, config, (*joined, f'--process-id={index}'))
        for index in range(processes)
    ]


def finish(process):
    output, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, output
    return output


def wait_for(path, process):
    """Until a run has made a file or directory."""
    deadline = time.monotonic() + PATIENCE
    while not path.exists():
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.002)


def wait_for_step(workdir, step, process):
    """Until a run has logged a step."""
    path, deadline = workdir / 'metrics.jsonl', time.monotonic() + PATIENCE
    while not path.exists() or f'{{"step": {step}, ' not in path.read_text():
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.002)


def state(workdir):
    with ocp.CheckpointManager(workdir / 'checkpoints') as manager:
        step = manager.latest_step()
        args = ocp.args.Composite(state=ocp.args.StandardRestore(), input=ocp.args.JsonRestore())
        restored = manager.restore(step, args=args)
    leaves = jax.tree_util.tree_leaves_with_path(restored['state'])
    return {jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in leaves}, restored['input']


def assert_equal(workdir, expected):
    """That two runs ended in the same state, to the last bit, at the same place in the data."""
    _assert_same(workdir, expected, lambda _: 0)


def assert_close(workdir, expected):
    """That two runs ended in the same state but for the order of sums in float32."""
    _assert_same(workdir, expected, lambda value: 2e-5 * (np.abs(value).max() + 1e-6))


def _assert_same(workdir, expected, tolerance):
    (values, place), (expected_values, expected_place) = state(workdir), state(expected)
    assert place == expected_place
    assert values.keys() == expected_values.keys()
    for name, value in expected_values.items():
        np.testing.assert_allclose(values[name], value, rtol=0, atol=tolerance(value), err_msg=name)


def metrics(workdir):
    """All but times."""
    lines = [json.loads(line) for line in (workdir / 'metrics.jsonl').read_text().splitlines()]
    return [
        {k: v for k, v in line.items() if k != 'images_per_second' and not k.startswith('time/')}
        for line in lines
    ]
