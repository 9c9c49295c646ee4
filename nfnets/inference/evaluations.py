"""Every checkpoint on every test set at every size, checked before the first is evaluated."""

import functools
import itertools
from collections.abc import Callable, Iterator, Sequence

import ml_collections
from etils import epath

from nfnets import build
from nfnets.data.imagenet import NUM_CLASSES
from nfnets.data.imagenet_sets import ImageNetSet
from nfnets.data.source import Source
from nfnets.errors import InputError
from nfnets.inference.score import Record, Result, score
from nfnets.models.param_names import is_classifier
from nfnets.weights.load import Weights, load_checkpoint


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
      record: called with what is said of each batch.

    Raises:
      InputError: a checkpoint, config or set cannot be used.
    """
    every_set: Sequence[ImageNetSet | None] = sets or [None]
    every_size: Sequence[int | None] = sizes or [None]
    load = functools.lru_cache(maxsize=1)(load_checkpoint)  # A single one is read once.
    sources: dict[tuple[str | None, str], Source] = {}
    configs = []
    for path in checkpoints:
        if sets:
            _check_is_of_imagenet(load(path))
        configs.append(config_of(load(path)))
    for config, needed in itertools.product(configs, sets):
        key = config.data.dir, needed.key
        sources[key] = sources.get(key) or build.source(_on_test_set(config, needed), needed.split)
    for path, own in zip(checkpoints, configs, strict=True):
        weights = load(path)
        for test_set, size in itertools.product(every_set, every_size):
            config, source = ml_collections.ConfigDict(own), None
            if test_set is not None:
                config = _on_test_set(config, test_set)
                source = sources[config.data.dir, test_set.key]
            if size is not None:
                config.data.eval_size = size
            yield score(config, weights, ema, test_set=test_set, source=source, record=record)


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
