"""Every checkpoint on every test set at every size, checked before the first is evaluated."""

import functools
import itertools
from collections.abc import Callable, Iterator, Sequence

import ml_collections
from etils import epath

from nfnets import config as config_lib
from nfnets.data.imagenet import NUM_CLASSES
from nfnets.data.imagenet_sets import ImageNetSet
from nfnets.data.load import load_source
from nfnets.data.source import Source
from nfnets.errors import InputError
from nfnets.inference.score import Record, Result, prepare, score
from nfnets.models.param_names import is_classifier
from nfnets.run.processes import require_same
from nfnets.weights.load import Weights, load_checkpoint

_Set = ImageNetSet | None  # None: the config's own data.


def evaluate_all(
    checkpoints: Sequence[epath.Path],
    config_of: Callable[[Weights], ml_collections.ConfigDict],
    *,
    sets: Sequence[ImageNetSet] = (),
    sizes: Sequence[int] = (),
    ema: bool = False,
    record: Record | None = None,
) -> Iterator[Result]:
    """Yields the results of `score`, by checkpoint, then set, then size.

    Args:
      checkpoints: files or working directories.
      config_of: the config to evaluate a checkpoint by.
      sets: published test sets in the config's `data.dir`; none: the config's data.
      sizes: sides of the network's input, px; none: the checkpoint's.
      ema: of working directories, the EMA of the parameters.
      record: called with what is evaluated, the split and the predictions for each batch (`Predicted`).

    Raises:
      InputError: a checkpoint, config or set cannot be used, or processes have other checkpoints.
    """
    every_set: Sequence[_Set] = sets or [None]
    every_size: Sequence[int | None] = sizes or [None]
    load = functools.lru_cache(maxsize=1)(load_checkpoint)  # A single one is read once.
    open_source = functools.cache(_open)

    def every(own: ml_collections.ConfigDict) -> Iterator[tuple[ml_collections.ConfigDict, _Set]]:
        for test_set, size in itertools.product(every_set, every_size):
            config = ml_collections.ConfigDict(own) if test_set is None else _on_test_set(own, test_set)
            config.data.eval_size = config.data.eval_size if size is None else size
            yield config, test_set

    configs = []
    for path in checkpoints:
        weights = load(path)
        if sets:
            _check_is_of_imagenet(weights)
        configs.append(config_of(weights))
        require_same({f'the SHA-256 of {path}': weights.sha256, f'the step of {path}': weights.about.step})
    for path, own in zip(checkpoints, configs, strict=True):
        for number, (config, _) in enumerate(every(own)):
            config_lib.check(config)
            source = open_source(*_place(config))
            if number == 0 and len(checkpoints) > 1:  # Its others have the same network.
                prepare(config, load(path), ema, source)
    for path, own in zip(checkpoints, configs, strict=True):
        for config, test_set in every(own):
            source = open_source(*_place(config))
            yield score(config, load(path), ema, test_set=test_set, source=source, record=record)


def _place(config: ml_collections.ConfigDict) -> tuple[str, str, str | None, str]:
    data = config.data
    return data.source, data.name, data.dir, data.eval_split


def _open(kind: str, name: str, directory: str | None, split: str) -> Source:
    return load_source(kind, name=name, directory=directory, split=split)


def _on_test_set(config: ml_collections.ConfigDict, test_set: ImageNetSet) -> ml_collections.ConfigDict:
    """A copy of a config whose data is a published test set in its `data.dir`."""
    config = ml_collections.ConfigDict(config)
    config.data.update(source='tfds', name=test_set.name, eval_split=test_set.split)
    return config


def _check_is_of_imagenet(weights: Weights) -> None:
    """Refuses a checkpoint for another number of classes than ImageNet's, which its shapes tell."""
    classifier = next(filter(is_classifier, weights.params), None)
    num_classes = weights.params[classifier]['b'].size if classifier else 0
    if num_classes != NUM_CLASSES:
        raise InputError(
            f"{weights.path} is of {num_classes} classes, and --set needs ImageNet's {NUM_CLASSES}"
        )
