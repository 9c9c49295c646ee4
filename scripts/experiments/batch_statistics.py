"""Evaluates a batch-normalized run by statistics of several kinds: is it they that spoil its accuracy?

    python scripts/experiments/batch_statistics.py RUN

Prints a JSON object of top-1 on the evaluation split: by the statistics that the run has, by those of each
batch itself, and with the same parameters by statistics made anew, of training images as they are evaluated
and as they are trained on.
"""

import itertools
import json
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import haiku as hk
import jax
import jax.numpy as jnp
import ml_collections
from etils import epath

from nfnets import build
from nfnets.commands.command_line import Parser, run
from nfnets.data import stream
from nfnets.data.augment import augment, normalize
from nfnets.errors import InputError
from nfnets.run.workdir import read_config
from nfnets.tasks import classification
from nfnets.weights.load import load_checkpoint

_BATCHES = 60  # Of statistics made anew, whose EMA forgets a tenth of its past with each.

Forward = Callable[[hk.State, jax.Array, bool], tuple[jax.Array, hk.State]]


def measure(workdir: epath.Path) -> dict[str, float]:
    """Top-1, 0..1, by the kind of statistics.

    Raises:
      InputError: the run's network has no statistics of batches.
    """
    config = ml_collections.FrozenConfigDict(read_config(workdir))
    weights = load_checkpoint(str(workdir))
    params, state = jax.tree.map(jnp.asarray, (weights.params, weights.network_state))
    if not state:
        raise InputError(f'{workdir} is of a network without statistics of batches')
    forward = _forward(config, params)
    evaluated = _evaluated(config, config.data.eval_split)
    clean = itertools.islice(
        itertools.cycle(
            [images for images, _, mask in _evaluated(config, config.data.train_split) if mask.all()]
        ),
        _BATCHES,
    )
    return {
        'running': _top_1(forward, state, evaluated, False),
        'of_the_batch': _top_1(forward, state, evaluated, True),
        'of_clean_images': _top_1(forward, _anew(forward, state, clean), evaluated, False),
        'of_augmented_images': _top_1(forward, _anew(forward, state, _augmented(config)), evaluated, False),
    }


def _forward(config: Any, params: hk.Params) -> Forward:
    apply = jax.jit(build.network(config).apply, static_argnums=4)

    def forward(state: hk.State, images: jax.Array, is_training: bool) -> tuple[jax.Array, hk.State]:
        outputs, state = apply(params, state, jax.random.key(0), images, is_training)
        return outputs['logits'], state

    return forward


def _evaluated(config: Any, split: str) -> list[tuple[jax.Array, Any, Any]]:
    """Images, labels and masks of a split, as they are evaluated, in batches of training's size."""
    batches = stream.eval_batches(
        build.source(config, split),
        classification.preprocessing(config),
        batch_size=config.train.batch_size,
        skip_broken=config.data.skip_broken,
    )
    return [(normalize(jnp.asarray(each['images'])), each['labels'], each['mask']) for each in batches]


def _augmented(config: Any) -> Iterable[jax.Array]:
    augmentation = classification.augmentation(config)
    prepare = jax.jit(lambda key, images, labels: augment(augmentation, key, images, labels).images)
    batches = build.train_batches(config, build.source(config, config.data.train_split), 0)
    try:
        for number, batch in zip(range(_BATCHES), batches, strict=False):
            yield prepare(jax.random.key(number), batch['images'], batch['labels'])
    finally:
        batches.close()


def _anew(forward: Forward, state: hk.State, batches: Iterable[jax.Array]) -> hk.State:
    for images in batches:
        state = forward(state, images, True)[1]
    return state


def _top_1(forward: Forward, state: hk.State, batches: Sequence[Any], is_training: bool) -> float:
    hits = count = 0.0
    for images, labels, mask in batches:
        best = jnp.argmax(forward(state, images, is_training)[0], axis=-1)
        hits += float(jnp.sum((best == labels) * mask))
        count += float(mask.sum())
    return hits / count


def main(argv: Sequence[str]) -> None:
    """Measures a run."""
    parser = Parser(__doc__)
    parser.add_argument('run', type=epath.Path, help='working directory')
    print(json.dumps(measure(parser.parse_args(argv).run)))


if __name__ == '__main__':
    run(main)
