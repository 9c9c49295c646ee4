"""Starts a run from a checkpoint: all parameters, or all but the classifier where the classes are others."""

from collections.abc import Mapping, Sequence
from typing import Any

import haiku as hk
import jax.numpy as jnp
import numpy as np

from nfnets.optim.optimizer import is_classifier
from nfnets.weights.fit import check_params
from nfnets.weights.load import Weights


def start_from(
    weights: Weights, fresh: hk.Params, *, class_names: Sequence[str], activation: str
) -> tuple[hk.Params, str]:
    """Puts a checkpoint's parameters into a network's.

    The classifier is kept only for the same classes: as many, and of the same names where the checkpoint
    tells them. Of a working directory the averaged parameters are taken.

    Args:
      weights: the checkpoint.
      fresh: the network's parameters as initialised.
      class_names: of the data to train on.
      activation: of the network.

    Returns:
      The parameters, and a line for people that says what was done.

    Raises:
      InputError: the checkpoint is of another network.
    """
    params, _ = weights.choose(ema=weights.ema_params is not None)
    weights.check_activation(activation)
    told = f'starting from {weights.path} ({weights.kind})'
    classifier = next(filter(is_classifier, fresh))
    if _is_of_other_classes(weights, fresh[classifier], classifier, class_names):
        params = {**params, classifier: {n: np.asarray(x) for n, x in fresh[classifier].items()}}
        told += f', with a new classifier for {len(class_names)} classes'
    check_params(params, fresh, str(weights.path))
    return {m: {n: jnp.asarray(params[m][n]) for n in names} for m, names in fresh.items()}, told


def _is_of_other_classes(
    weights: Weights, fresh: Mapping[str, Any], classifier: str, class_names: Sequence[str]
) -> bool:
    held = weights.params.get(classifier, {}).get('b')
    if held is not None and held.shape != fresh['b'].shape:
        return True
    return weights.about.class_names not in (None, tuple(class_names))
