"""Every kind of network that can be trained, by name."""

import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import haiku as hk
import jax
import jax.numpy as jnp

from nfnets.models import nf_resnet, nfnet
from nfnets.models.bn_net import BNNet
from nfnets.models.fixup_resnet import FixupResNet
from nfnets.models.layers import Outputs
from nfnets.models.nf_regnet import NFRegNet
from nfnets.models.nf_resnet import NFResNet
from nfnets.models.nfnet import NFNet
from nfnets.models.resnet import ResNet
from nfnets.models.skipinit_resnet import SkipInitResNet
from nfnets.models.variants import NF_REGNETS, NF_RESNETS, NFNETS, RESNETS, VARIANTS, Variant


class Kind(NamedTuple):
    """A kind of network.

    Attributes:
      module: its class, called as (num_classes, variant, **settings).
      variants: its members by name.
      activation: the network's own unless set otherwise or the variant has one.
      bottleneck_ratio: width of the 3x3 convolutions to that of their block, unless the variant has one.
      can_scan: whether it takes `layout` and `remat`.
    """

    module: Any
    variants: Mapping[str, Variant]
    activation: str
    bottleneck_ratio: float
    can_scan: bool = True


NETWORKS: dict[str, Kind] = {
    'NFNet': Kind(NFNet, NFNETS, 'gelu', nfnet.BOTTLENECK_RATIO),
    'NFResNet': Kind(NFResNet, NF_RESNETS, 'relu', nf_resnet.BOTTLENECK_RATIO),
    'NFRegNet': Kind(NFRegNet, NF_REGNETS, 'silu', bottleneck_ratio=1.0),  # Its first block, the narrowest.
    'SkipInitResNet': Kind(SkipInitResNet, RESNETS, 'relu', nf_resnet.BOTTLENECK_RATIO),
    'FixupResNet': Kind(FixupResNet, RESNETS, 'relu', nf_resnet.BOTTLENECK_RATIO),
    # Neither stacked nor rematerialized blocks hand on the statistics of batches.
    'ResNet': Kind(ResNet, RESNETS, 'relu', nf_resnet.BOTTLENECK_RATIO, can_scan=False),
    'BNNet': Kind(BNNet, VARIANTS, 'gelu', nfnet.BOTTLENECK_RATIO, can_scan=False),
}


def make_network(
    name: str, num_classes: int, variant: str | Variant, **settings: Any
) -> hk.TransformedWithState:
    """A network as a pair of functions, init and apply.

    Args:
      name: one of `NETWORKS`.
      num_classes: number of logits.
      variant: name of a member, or a `Variant`.
      **settings: of the network's class.

    Returns:
      init, and apply(params, network_state, key, images [N, H, W, 3], is_training) to outputs and state. The
      state holds the statistics of batch normalization, and is {} in networks without it.
    """

    return transformed(functools.partial(NETWORKS[name].module, num_classes, variant, **settings))


def transformed(make_module: Callable[[], Any]) -> hk.TransformedWithState:
    """The network of a module that is made anew each time, as of `make_network`."""

    def forward(images: jax.Array, is_training: bool) -> Outputs:
        return make_module()(images, is_training)

    return hk.transform_with_state(forward)


def init_variables(network: hk.TransformedWithState, key: jax.Array) -> tuple[hk.Params, hk.State]:
    """Initial parameters and state; they do not depend on the size of the images."""
    return network.init(key, jnp.zeros((1, 32, 32, 3), jnp.float32), False)


def variable_shapes(network: hk.TransformedWithState) -> tuple[Any, Any]:
    """{module: {name: shape and dtype}} of the parameters and of the state; nothing is computed."""
    return shapes_of(functools.partial(init_variables, network), jax.random.key(0))


def shapes_of(initialize: Callable[..., Any], *args: Any) -> Any:
    """What a function gives that draws a network's parameters, as shapes and dtypes; nothing is computed.

    Nor is anything drawn: initializers take longer to trace than the network itself.
    """

    def zeros(next_creator, shape, dtype, init, context):  # type: ignore[no-untyped-def]
        return jnp.zeros(shape, dtype)

    def undrawn(*args: Any) -> Any:
        with hk.custom_creator(zeros):
            return initialize(*args)

    return jax.eval_shape(functools.partial(hk.transform(undrawn).apply, {}, None), *args)
