"""Working directories as runs that detect leave them, without the training."""

import functools
import json

import jax
import numpy as np

from nfnets import build
from nfnets.config import complete
from nfnets.configs import scenes
from nfnets.detection.examples import CocoExamples
from nfnets.models.networks import shapes_of
from nfnets.run.checkpoint import Checkpoints
from nfnets.run.workdir import CHECKPOINTS, claim

STEP = 40  # Of the checkpoint.
SIDE = 64
SETTINGS = {
    'model.widths': (8, 8, 8, 8),
    'model.depths': (1, 1, 1, 1),
    'data.train_size': SIDE,
    'data.eval_size': SIDE,
    'detection.most_objects': 4,
    'detection.channels': 8,
    'detection.hidden': 8,
    'detection.most_of_level': 16,
    'detection.proposals': 12,
    'detection.regions': 8,
    'detection.detections': 6,
    'train.batch_size': 4,
    'eval.batch_size': 4,
}


def write(workdir, data, metrics=(), settings=(), *, has_checkpoint=True):
    """A run on a set, with these lines of metrics; the EMA in its checkpoint is of other parameters."""
    config = scenes.get_config('NFResNet')
    config.update_from_flattened_dict({**SETTINGS, 'data.dir': str(data), **dict(settings)})
    examples = CocoExamples(data, 'val')
    classes = examples.class_names
    completed = complete(config, num_examples=len(examples), num_classes=len(classes), num_devices=1)
    claim(workdir, completed, classes)
    (workdir / 'metrics.jsonl').write_text(''.join(json.dumps(line) + '\n' for line in metrics))
    if has_checkpoint:
        checkpoints = Checkpoints(workdir / CHECKPOINTS, keep=None)
        checkpoints.save(state(completed), position=0)
        checkpoints.close()
    return workdir, completed


def state(config):
    """Parameters at random, and another EMA; nothing is compiled."""
    shapes = shapes_of(functools.partial(build.new_state, config))
    made = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), shapes)
    params, ema = (_at_random(made.params, seed) for seed in (0, 1))
    return made._replace(step=np.int32(STEP), params=params, ema_params=ema)


def _at_random(params, seed):
    rng = np.random.default_rng(seed)

    def fill(x):
        fan_in = np.prod(x.shape[:-1]) if x.ndim > 1 else 100
        return rng.normal(0, 1.5 / np.sqrt(fan_in), x.shape).astype(x.dtype)

    return jax.tree.map(fill, params)
