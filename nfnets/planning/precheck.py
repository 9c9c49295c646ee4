"""Checks before a run: what may be a mistake, what may not fit, and what all hosts must have in common."""

import hashlib
import json
import re
from typing import Any

import jax
import jax.numpy as jnp
from ml_collections import FrozenConfigDict as Config

from nfnets import build, host
from nfnets.config import flatten, mixture
from nfnets.models.cost import kept_for_backward
from nfnets.models.param_layout import UNSTACKED
from nfnets.planning import memory
from nfnets.run.config_file import DATA_DIR, to_json
from nfnets.tasks.task import Examples

_FEW = 1000  # Values kept for each of an image's: no network here keeps as many.
_WHAT_HELPS = (
    'a smaller train.batch_size, more train.accumulate_steps, model.scan with model.remat, or, on several '
    'devices, train.shard_optimizer helps'
)


def warnings(config: Config, train: Examples, evaluation: Examples) -> list[str]:
    """Warnings, one line each, about settings and data that may be a mistake.

    Args:
      config: a complete one.
      train: the examples to train on.
      evaluation: those to evaluate on.
    """
    data, batch = config.data, config.train.batch_size // config.data.repeats
    found = [*train.warnings, *evaluation.warnings]
    if (split := _split_of_both(config)) is not None:
        found.append(
            f'{split} and data.eval_split are both {data.eval_split!r}: accuracy will be that on images that '
            'were learned'
        )
    if batch > len(train):
        repeated = f' / data.repeats={data.repeats}' if data.repeats > 1 else ''
        found.append(
            f'train.batch_size={config.train.batch_size}{repeated} is more than the {len(train)} images '
            'there are to train on'
        )
    return [*found, *_memory_warning(config)]


def _split_of_both(config: Config) -> str | None:
    """The setting that names the evaluation split to train on, if one does."""
    data = config.data
    if not data.mixture:
        return 'data.train_split' if data.train_split == data.eval_split else None
    evaluated = data.source, data.name, data.dir, data.eval_split
    alike = (
        f'data.mixture.{name}.split'
        for name, its in mixture(config).items()
        if (its['source'], its['name'], its['dir'], its['split']) == evaluated
    )
    return next(alike, None)


def _memory_warning(config: Config) -> list[str]:
    there, dtype = memory.device_bytes(), jnp.dtype(config.train.precision)
    pixels = _images_at_once(config) * config.data.train_size**2 * 3
    if config.model.remat or pixels * dtype.itemsize * _FEW < there:
        return []  # Only the compiler knows, or it fits, and tracing would take seconds.
    needed = memory_needed(config)
    if needed < there:
        return []
    return [
        f'a step of {_describe_batch(config)} needs {needed / 2**30:,.0f} GiB or more on each device, '
        f'which has {there / 2**30:,.0f}; {_WHAT_HELPS}'
    ]


def memory_needed(config: Config) -> int:
    """Bytes of a device that a training step without remat takes at least: what convolutions give."""
    task, key = build.task(config), jax.eval_shape(lambda: jax.random.key(0))
    loss_fn = task.loss_fn(config, build.network(config, UNSTACKED))
    params, network_state = build.variable_shapes(config)
    batch = jax.eval_shape(task.augment(config), key, **task.batch_shapes(config, _images_at_once(config)))
    program = jax.make_jaxpr(loss_fn)(network_state, params, batch, key)
    return kept_for_backward(program.jaxpr) * jnp.dtype(config.train.precision).itemsize


def _images_at_once(config: Config) -> int:
    return config.train.batch_size // jax.device_count() // config.train.accumulate_steps


def _describe_batch(config: Config) -> str:
    """The settings that decide how much memory a step takes, for messages."""
    model = ''.join(f', model.{name}=True' for name in ('scan', 'remat') if config.model[name])
    per_device = config.train.batch_size // jax.device_count()
    return (
        f'train.batch_size={config.train.batch_size} ({per_device} images on each device) at '
        f'data.train_size={config.data.train_size} px with '
        f'train.accumulate_steps={config.train.accumulate_steps}{model}'
    )


def is_out_of_memory(error: Exception) -> bool:
    """Whether a step failed for lack of memory of a device or of the host."""
    return isinstance(error, MemoryError) or 'RESOURCE_EXHAUSTED' in str(error)


def out_of_memory(config: Config, step: int, error: Exception) -> str:
    """The message about a step that does not fit into memory."""
    wanted = re.search(r'(\d+) bytes', str(error))
    size = f'{int(wanted[1]) / 2**30:,.1f} GiB asked for at once; ' if wanted else ''
    return f'out of memory at step {step}, {_describe_batch(config)}: {size}{_WHAT_HELPS}'


def facts(
    config: Config, train: Examples, evaluation: Examples, steps_there: list[int], start_sha256: str | None
) -> dict[str, Any]:
    """Facts that must be equal on all processes of a run, by name.

    Args:
      config: a complete one.
      train: the training split.
      evaluation: the evaluation split.
      steps_there: of the checkpoints in the working directory, the last one last.
      start_sha256: SHA-256 of the checkpoint that a new run starts from; None: it starts from none.
    """
    names = hashlib.sha256('\0'.join(train.class_names).encode()).hexdigest()[:12]
    settings = flatten(json.loads(to_json(config)))
    del settings['probe.dir']  # Each host may have its own copy.
    settings = {key: value for key, value in settings.items() if not DATA_DIR.fullmatch(key)}
    return {
        'the code of nfnets, by its digest,': host.code_digest(),
        'the version of JAX': jax.__version__,
        **settings,
        'the SHA-256 of init_from': start_sha256,
        'the last checkpoint in workdir': steps_there[-1] if steps_there else None,
        'the number of training images': len(train),
        'the number of evaluation images': len(evaluation),
        'the digest of the class names': names,
    }
