"""Whole runs of `nfnets-train`, and what they leave."""

import contextlib
import ctypes
import functools
import json
import os
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import forge
import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest
from etils import epath
from forge import ROOT
from ml_collections import ConfigDict, FrozenConfigDict

from nfnets import build
from nfnets.configs import digits
from nfnets.run.checkpoint import whole_steps
from nfnets.tasks import classification
from nfnets.train import train_and_evaluate
from nfnets.train_step import run_keys

# Runs compile the same programs if these differ in how often they log, evaluate and save, and in no more.
TINY = {
    'model.name': 'NFResNet',  # Traced in half the time that an NFNet takes.
    'model.variant': 'ResNet50',
    'model.widths': (32,),
    'model.depths': (1,),
    'model.group_width': None,
    'data.train_size': 16,
    'data.eval_size': 16,
    'train.batch_size': 64,
    'train.steps': 12,
    'train.log_every_steps': 1,
    'optimizer.learning_rate': 0.1,
    'optimizer.warmup_steps': 3.0,
    'eval.batch_size': 80,
    'eval.every_steps': 6,
    'checkpoint.every_steps': 4,
}
# The network of the digits' recipe, smaller, and its rate.
NFNET = {
    'model.name': 'NFNet',
    'model.variant': 'F0',
    'model.widths': (16,),
    'model.group_width': 8,
    'optimizer.learning_rate': 0.5,
}
BN_NET = {**NFNET, 'model.name': 'BNNet'}
# To be ended by something else, whatever it trains: what is traced and compiled soonest.
LONG = {
    **TINY,
    'model.name': 'SkipInitResNet',
    'augment.mixup_alpha': 0.0,
    'optimizer.agc_clipping': 'inf',
    'optimizer.learning_rate': 0.001,
    'train.steps': 100_000,
    'eval.every_steps': 100_000,
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


def train(workdir, settings, config=digits.get_config):
    """A run in this process."""
    changed = config()
    changed.update_from_flattened_dict(settings)
    with tracing_once():
        return train_and_evaluate(changed, workdir)


@contextlib.contextmanager
def tracing_once():
    """In it, runs of the same settings share what was traced, wherever they lie."""
    with pytest.MonkeyPatch.context() as patch:
        for (module, name), cached in _TRACED_ONCE.items():
            patch.setattr(module, name, cached)
        yield


def _of_settings(function, is_random=False):
    """A function of a complete config, called once for all that differ in where things lie, or in the seed.

    The seed counts if the function `is_random`.
    """
    cached = functools.cache(function)

    def call(config, *arguments):
        placeless = ConfigDict(config).unlock()
        placeless.init_from = placeless.rewind_from = placeless.data.dir = placeless.probe.dir = None
        placeless.seed = placeless.seed if is_random else 0
        return cached(FrozenConfigDict(placeless), *arguments)

    return call


def _initial_values(config, initial_variables=build.initial_variables):
    """Of a run of a config, from its seed; NumPy arrays."""
    compute = jax.jit(functools.partial(initial_variables, config))
    with ThreadPoolExecutor(1) as pool:  # This thread is tracing the program that they are for.
        return pool.submit(lambda: jax.device_get(compute(run_keys(config.seed)[0]))).result()


_values = _of_settings(_initial_values, is_random=True)
_TRACED_ONCE = {
    (build, 'network'): _of_settings(build.network),
    (build, 'train_step'): _of_settings(build.train_step),
    (build, 'initial_variables'): lambda config, key: jax.tree.map(jnp.asarray, _values(config)),
    (classification, 'make_eval_step'): functools.cache(classification.make_eval_step),
}


def start(workdir, settings, devices=8, config='digits', arguments=(), **how):
    """A run in a process of its own, a copy of one that has imported everything; `how` as `forge.start`."""
    words = _words(workdir, settings, config, arguments)
    return forge.start('train', words, changed=environment(devices), **how)


def obey_permissions():
    """Gives up what root may do to files of any permissions; for `before` of `start`."""
    header, sets = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0), (ctypes.c_uint32 * 6)()
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.capget(header, sets) == 0
    for index in range(3):  # Of the first 32: effective, permitted and inherited.
        sets[index] &= ~(1 << _CAP_DAC_OVERRIDE)
    assert libc.capset(header, sets) == 0


_CAPABILITY_VERSION_3, _CAP_DAC_OVERRIDE = 0x20080522, 1


def start_anew(workdir, settings, devices=8, config='configs/digits.py', arguments=()):
    """A run as a user starts it, of `scripts/train.py`."""
    return subprocess.Popen(
        [sys.executable, 'scripts/train.py', *_words(workdir, settings, config, arguments)],
        cwd=ROOT,
        env={**os.environ, **environment(devices)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def _words(workdir, settings, config, arguments):
    flags = [f'--config.{key}={value}' for key, value in settings.items()]
    return [f'--config={config}', f'--workdir={workdir}', *flags, *arguments]


def environment(devices):
    others = [flag for flag in os.environ['XLA_FLAGS'].split() if 'device_count' not in flag]
    return {'XLA_FLAGS': ' '.join([*others, f'--xla_force_host_platform_device_count={devices}'])}


def start_several(processes, devices, workdir, settings, config='digits'):
    """One run in several processes of so many devices each; lists give each its own workdir or settings."""
    workdirs = workdir if isinstance(workdir, list) else [workdir] * processes
    every = settings if isinstance(settings, list) else [settings] * processes
    flags = joining(processes)
    return [start(workdirs[index], every[index], devices, config, flags[index]) for index in range(processes)]


def joining(processes):
    """The flags of each of several processes on this machine."""
    with socket.socket() as free:
        free.bind(('localhost', 0))
        port = free.getsockname()[1]
    together = (f'--coordinator=localhost:{port}', f'--num-processes={processes}')
    return [(*together, f'--process-id={index}') for index in range(processes)]


def finish(process):
    output, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, output
    return output


def wait_for(path, process):
    """Until a run has made a file or directory."""
    _wait_until(path.exists, process)


def wait_for_checkpoint(workdir, step, process):
    """Until a run has saved a step or a later one; the step itself may have been deleted by then."""
    directory = epath.Path(workdir / 'checkpoints')
    _wait_until(lambda: max(whole_steps(directory), default=0) >= step, process)


def wait_for_step(workdir, step, process):
    """Until a run has logged a step."""
    path = workdir / 'metrics.jsonl'
    _wait_until(lambda: path.exists() and f'{{"step": {step}, ' in path.read_text(), process)


def _wait_until(is_so, process):
    deadline = time.monotonic() + PATIENCE
    while not is_so():
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


def array_files(workdir, step):
    """The files of a checkpoint that hold arrays.

    They come first in a file. An index may follow that a later file replaces, and that nobody reads.
    """
    return list((workdir / 'checkpoints' / str(step) / 'state' / 'ocdbt.process_0' / 'd').iterdir())


def flip_a_bit(file):
    """One of an array in the file."""
    content = bytearray(file.read_bytes())
    content[len(content) // 8] ^= 1
    file.write_bytes(content)


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
