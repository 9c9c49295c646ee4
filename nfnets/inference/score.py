"""Evaluates a checkpoint on a data set: accuracy, loss and speed, with what they are of."""

import dataclasses
import functools
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import haiku as hk
import jax
import ml_collections
import numpy as np
from tqdm import tqdm

from nfnets import build, parallel
from nfnets import config as config_lib
from nfnets.data.imagenet_sets import SETS, ImageNetSet
from nfnets.data.source import Source, check_same_classes
from nfnets.data.stream import Batch, EvalBatches
from nfnets.evaluation.evaluate import Predicted
from nfnets.finetune import PREPROCESSING, preprocessing_settings, with_preprocessing
from nfnets.folding.fold import fold
from nfnets.folding.run import as_network
from nfnets.models.networks import NETWORKS
from nfnets.models.param_layout import UNSTACKED
from nfnets.models.variants import SHOWN, have_same_blocks
from nfnets.run.workdir import read_config
from nfnets.tasks import classification
from nfnets.weights.fit import Architecture, architecture, check_variables, require_architecture
from nfnets.weights.load import Weights
from nfnets.weights.released import Params

Result = dict[str, Any]


class Evaluated(NamedTuple):
    """What is evaluated: the path of a checkpoint, the key of a published set, the input's side in px."""

    checkpoint: str
    set: str | None
    size: int


Record = Callable[[Evaluated, Source, Predicted], None]


class Prepared(NamedTuple):
    """A checkpoint and its data, checked.

    Attributes:
      config: complete.
      source: the evaluation split.
      network: that the checkpoint fits.
      variables: the checkpoint's parameters and network state.
    """

    config: ml_collections.FrozenConfigDict
    source: Source
    network: hk.TransformedWithState
    variables: tuple[Params, Params]


def prepare(
    config: ml_collections.ConfigDict, weights: Weights, ema: bool = False, source: Source | None = None
) -> Prepared:
    """Checks all that an evaluation needs; nothing is evaluated.

    Args:
      config: as in `configs/default.py`; says which network the checkpoint must fit, the data, and
        preprocessing that overrides the checkpoint's.
      weights: the checkpoint.
      ema: of a working directory, the EMA of the parameters.
      source: the evaluation split, if it is open already.

    Raises:
      InputError: settings, data and checkpoint cannot be used, or not together.
    """
    config = with_preprocessing(config, preprocessing_settings(weights.about, weights.params))
    config_lib.check(config)
    source = source or build.source(config, config.data.eval_split)
    check_class_names(weights, source)
    complete = config_lib.complete(
        config,
        num_examples=None,
        num_classes=len(source.class_names),
        num_devices=jax.device_count(),
    )
    weights.check_network(complete.model.name, complete.model.activation)
    variables, network = weights.variables(ema), build.network(complete, UNSTACKED)
    check_variables(variables, network, str(weights.path))
    return Prepared(complete, source, network, variables)


def score(
    config: ml_collections.ConfigDict,
    weights: Weights,
    ema: bool = False,
    *,
    test_set: ImageNetSet | None = None,
    source: Source | None = None,
    record: Record | None = None,
) -> Result:
    """Evaluates one checkpoint over the whole evaluation split, with a progress bar; its network is folded.

    Args:
      config: as of `prepare`.
      weights: the checkpoint.
      ema: of a working directory, the EMA of the parameters.
      test_set: which of the published ones the data is, to be counted as they are.
      source: the evaluation split, if it is open already.
      record: called with what is evaluated, the split and the predictions for each batch (`Predicted`).

    Returns:
      What can be written as a JSON object: 'top_1', 'top_5' (0..1), 'loss' (nats), 'num_examples' (and
      what else `evaluate` gives), 'images_per_second' (reading included, compilation not),
      'preprocessing', and what the checkpoint and the set are.

    Raises:
      InputError: settings, data and checkpoint cannot be used, or not together.
    """
    complete, source, network, variables = prepare(config, weights, ema, source)
    if jax.process_index() == 0:
        for line in source.warnings:
            print(f'warning: {line}', file=sys.stderr, flush=True)
    watch = _Watch()

    def watched(batches: EvalBatches) -> Iterator[Batch]:
        return watch(tqdm(batches, desc=weights.path.name, unit='batch', disable=jax.process_index() != 0))

    preprocessing = classification.preprocessing(complete)
    key = test_set.key if test_set else _key_of(complete.data)
    evaluated = Evaluated(str(weights.path), key, preprocessing.size)
    graph = fold(network, variables, preprocessing.size, from_pixels=False)
    evaluate = classification.split_evaluation(
        complete,
        source,
        as_network(graph),
        watched,
        classes=test_set and test_set.classes,
        look=record and functools.partial(record, evaluated, source),
    )
    results = evaluate({'given': parallel.replicate((graph.arrays(), {}))})
    found = architecture(variables[0])
    about = weights.choose(ema)[1]
    return {
        'checkpoint': str(weights.path),
        'kind': weights.kind,
        'sha256': weights.sha256,
        'variant': found.name if found else None,
        'parameters': about.parameters,
        'step': about.step,
        'set': key,
        'preprocessing': dataclasses.asdict(preprocessing),
        **results['given'],
        'images_per_second': watch.rate() * jax.process_count(),
    }


def _key_of(data: ml_collections.FrozenConfigDict) -> str | None:
    """The key of the published test set that a config's data is, counted as any other data; None: another."""
    given = (data.name, data.eval_split) if data.source == 'tfds' else None
    return next((s.key for s in SETS.values() if (s.name, s.split) == given and not s.has_subset), None)


def check_class_names(weights: Weights, source: Source) -> None:
    """Refuses to use a checkpoint on other classes than it was trained on, where it knows them.

    Raises:
      InputError: names the first class that differs.
    """
    held = weights.about.class_names
    if held is not None:
        check_same_classes(held, str(weights.path), source.class_names, 'the data')


def config_of(
    weights: Weights,
    config: ml_collections.ConfigDict,
    overrides: Mapping[str, Any],
    *,
    is_given: bool,
    keeps_network: bool,
) -> ml_collections.ConfigDict:
    """The config to evaluate one checkpoint by, with what the checkpoint knows.

    Args:
      weights: the checkpoint.
      config: as in `configs/default.py`, with the overrides in it.
      overrides: settings by key that override the checkpoint.
      is_given: whether the config's data are meant; if not, a run is evaluated on its own.
      keeps_network: whether the config's network is meant, which the checkpoint must fit.

    Raises:
      InputError: the checkpoint is a file and holds no NFNet, or a run of another task.
    """
    config = ml_collections.ConfigDict(config) if keeps_network else with_network_of(config, weights)
    if weights.kind == 'workdir' and not is_given:
        config.data.update(read_config(weights.path)['data'])
    config.train.loss = weights.about.loss or config.train.loss
    # The checkpoint knows its preprocessing, and `score` asks it.
    config.data.update(dict.fromkeys(PREPROCESSING))
    config.update_from_flattened_dict(dict(overrides))
    return config


def with_network_of(config: ml_collections.ConfigDict, weights: Weights) -> ml_collections.ConfigDict:
    """A copy of a config whose network is that of a checkpoint.

    Raises:
      InputError: the checkpoint is a file and holds no NFNet, or a run of another task.
    """
    config = ml_collections.ConfigDict(config)
    if weights.kind == 'workdir':
        config.model.update(read_config(weights.path, config.task)['model'])
        return config
    found = require_architecture(weights.params, f'{weights.path} holds no whole NFNet')
    set_network(config, found, weights.about.activation)
    return config


def set_network(config: ml_collections.ConfigDict, network: Architecture, activation: str | None) -> None:
    """Makes a config describe a network, by name where it has one; activation None leaves the config's."""
    config.model.name = network.network
    config.model.activation = activation or config.model.activation
    config.model.num_classes = network.num_classes
    if network.name is not None:
        own = {'widths': None, 'depths': None, 'group_width': None, 'second_conv': True}
        config.model.update(variant=network.name, **own)
        return
    config.model.update({name: getattr(network.variant, name) for name in SHOWN})
    named = NETWORKS[network.network].variants.get(config.model.variant)
    if named is None or not have_same_blocks(named, network.variant):
        config.model.variant = network.base


class _Watch:
    """Times batches as they are used up; the first, which compiles, counts only if there is no other."""

    def __init__(self) -> None:
        self._ends: list[float] = []
        self._images: list[int] = []

    def __call__(self, batches: Iterable[Batch]) -> Iterator[Batch]:
        self._began = time.perf_counter()
        for batch in batches:
            yield batch
            self._ends.append(time.perf_counter())
            self._images.append(int(np.sum(batch['mask'])))

    def rate(self) -> float:
        """Images/s."""
        if len(self._ends) == 1:
            return self._images[0] / (self._ends[0] - self._began)
        return sum(self._images[1:]) / (self._ends[-1] - self._ends[0])
