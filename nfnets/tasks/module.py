"""The network that `config.model` describes, as a Haiku module, for whatever task."""

import functools
from collections.abc import Callable
from typing import Any

from ml_collections import FrozenConfigDict as Config

from nfnets import config as config_lib
from nfnets.models.networks import NETWORKS
from nfnets.models.param_layout import ParamLayout


def module(config: Config, layout: ParamLayout) -> Callable[[], Any]:
    """What makes the module, inside a transformed function.

    Args:
      config: a complete one.
      layout: of the parameters that it is applied to.
    """
    model, kind = config.model, NETWORKS[config.model.name]
    return functools.partial(
        kind.module,
        model.num_classes,
        config_lib.make_variant(config),
        dropout_rate=model.dropout_rate,
        stochastic_depth_rate=model.stochastic_depth_rate,
        activation=model.activation,
        **({'layout': layout, 'remat': model.remat} if kind.can_scan else {}),
    )
