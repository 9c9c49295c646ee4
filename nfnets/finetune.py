"""Starts a run from a checkpoint: all parameters, or all but the classifier where the classes are others."""

from collections.abc import Mapping, Sequence
from typing import Any

import haiku as hk
import jax.numpy as jnp
import ml_collections
import numpy as np

from nfnets.models.param_names import is_classifier
from nfnets.models.variants import RECIPES
from nfnets.weights.about import About
from nfnets.weights.fit import architecture, check_params
from nfnets.weights.load import Weights
from nfnets.weights.released import Params

# Settings of `config.data` that a checkpoint knows.
PREPROCESSING = ('train_size', 'eval_size', 'eval_margin', 'eval_style')


def with_preprocessing(
    config: ml_collections.ConfigDict, settings: Mapping[str, Any]
) -> ml_collections.ConfigDict:
    """A copy of a config in which the sizes, margin and style of images that are None have these values.

    Args:
      config: as in `configs/default.py`.
      settings: by name, without 'data.'; what is missing or None stays as it is.
    """
    config = ml_collections.ConfigDict(config)
    for key in PREPROCESSING:
        if config.data[key] is None and settings.get(key) is not None:
            config.data[key] = settings[key]
    return config


def preprocessing_settings(about: About, params: Params) -> dict[str, Any]:
    """The preprocessing that a checkpoint knows, as settings of `config.data`; {} if none.

    Args:
      about: metadata of the checkpoint's parameters.
      params: the parameters; those of a named variant imply the size it was trained on.
    """
    if about.preprocessing is None:
        return {}
    preprocessing, network = about.preprocessing, architecture(params)
    of_variant = RECIPES[network.name].train_size if network and network.name else preprocessing.size
    return {
        'train_size': about.train_size or of_variant,
        'eval_size': preprocessing.size,
        'eval_margin': preprocessing.margin,
        'eval_style': preprocessing.style,
    }


def start_from(
    weights: Weights, fresh: hk.Params, *, class_names: Sequence[str], network: str, activation: str
) -> tuple[hk.Params, str]:
    """Puts a checkpoint's parameters into a network's.

    The classifier is kept only for the same classes: as many, and of the same names where the checkpoint
    knows them. Of a working directory the EMA is taken.

    Args:
      weights: the checkpoint.
      fresh: the network's parameters as initialized.
      class_names: of the data to train on.
      network: its kind, as in `model.name`.
      activation: of the network.

    Returns:
      The parameters, and a line that reports what was replaced, for people.

    Raises:
      InputError: the checkpoint is of another network.
    """
    params, _ = weights.choose(ema=weights.ema_params is not None)
    weights.check_network(network, activation)
    message = f'starting from {weights.path} ({weights.kind})'
    classifier = next(filter(is_classifier, fresh))
    if _is_of_other_classes(weights, fresh[classifier], classifier, class_names):
        check_params(params, fresh, str(weights.path), but=classifier)
        params = {**params, classifier: {n: np.asarray(x) for n, x in fresh[classifier].items()}}
        message += f', with a new classifier for {len(class_names)} classes'
    else:
        check_params(params, fresh, str(weights.path))
    return {m: {n: jnp.asarray(params[m][n]) for n in names} for m, names in fresh.items()}, message


def _is_of_other_classes(
    weights: Weights, fresh: Mapping[str, Any], classifier: str, class_names: Sequence[str]
) -> bool:
    held = weights.params.get(classifier, {}).get('b')
    if held is not None and held.shape != fresh['b'].shape:
        return True
    return weights.about.class_names not in (None, tuple(class_names))
