"""Working directories as runs on the digits leave them, without the training."""

import json

import jax
import jax.numpy as jnp
import tiny_network

from nfnets import build
from nfnets.config import complete
from nfnets.configs import digits
from nfnets.run.checkpoint import Checkpoints
from nfnets.run.workdir import CHECKPOINTS, claim
from nfnets.train_state import init_train_state

STEP = 40  # Of the checkpoint.


def config(settings=()):
    """The config of the digits for a tiny network."""
    changed = digits.get_config()
    network = {
        f'model.{key}': getattr(tiny_network.VARIANT, key) for key in ('widths', 'depths', 'group_width')
    }
    changed.update_from_flattened_dict({**network, **dict(settings)})
    return changed


def write(workdir, metrics, settings=(), *, has_checkpoint=False):
    """A run with these lines of metrics; a checkpoint is of `params(0)` with the average `params(1)`."""
    completed = complete(config(settings), num_examples=1437, num_classes=10, num_devices=1)
    claim(workdir, completed, tuple('0123456789'))
    (workdir / 'metrics.jsonl').write_text(''.join(json.dumps(line) + '\n' for line in metrics))
    if has_checkpoint:
        state = init_train_state(params(0), build.optimizer(completed))
        checkpoints = Checkpoints(workdir / CHECKPOINTS, keep=None)
        checkpoints.save(state._replace(step=jnp.int32(STEP), ema_params=params(1)), position=0)
        checkpoints.close()
    return workdir


def params(seed):
    """Of the tiny network, at random."""
    return jax.tree.map(jnp.asarray, tiny_network.params(num_classes=10, seed=seed))
