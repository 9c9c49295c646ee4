"""NF-RegNet: normalizer-free RegNets (Brock et al. 2021, arXiv 2101.08692).

Names and shapes of the parameters, and the outputs, are those of the code released with arXiv 2102.06171: a
block's inner width follows from its input, squeeze-excite stands before the last convolution, and the first
block does not widen.
"""

import haiku as hk
import jax
import jax.numpy as jnp

from nfnets.models.activations import ACTIVATIONS, Activation
from nfnets.models.layers import (
    Outputs,
    SqueezeExcite,
    WSConv2D,
    average_pool,
    grouped,
    pooled_outputs,
    scalar,
    stochastic_depth,
)
from nfnets.models.param_layout import UNSTACKED, ParamLayout
from nfnets.models.stages import ALPHA, BlockSetting, Place, lay_out, make_stages, run_stages
from nfnets.models.variants import REGNETS, Variant, choose

_EXPANSION = 2.25  # Width of the 3x3 convolution to the block's input, but in the first block.
_HEAD_RATIO = (1280, 440)  # Channels of the last convolution to those of the last stage.


class NFRegBlock(hk.Module):
    """Pre-activation block: 1x1 that widens, grouped 3x3, squeeze-excite, 1x1."""

    def __init__(self, place: Place, variant: Variant, activation: Activation, name: str | None = None):
        """Creates the block; arguments as of `NFBlock`."""
        super().__init__(name=name)
        self.place = place
        self.activation = activation
        inner = place.channels if place.inputs is None else int(place.inputs * _EXPANSION)
        width, groups = grouped(inner, variant.group_width)
        self.conv0 = WSConv2D(width, 1, name='conv0')
        self.conv1 = WSConv2D(width, 3, place.stride, groups, name='conv1')
        self.conv2 = WSConv2D(place.channels, 1, name='conv2')
        if place.is_transition:
            self.conv_shortcut = WSConv2D(place.channels, 1, name='conv_shortcut')
        self.squeeze_excite = SqueezeExcite(width, name='squeeze_excite')

    def __call__(self, x: jax.Array, setting: BlockSetting, is_training: bool) -> jax.Array:
        """[N, H, W, I] -> [N, ceil(H / stride), ceil(W / stride), channels]."""
        out = self.activation(x) * jnp.asarray(1 / setting.beta, x.dtype)
        shortcut = x
        if self.place.is_transition:
            shortcut = self.conv_shortcut(average_pool(out, self.place.stride))
        out = stochastic_depth(self.branch(out), setting.drop_rate, is_training)
        return out * scalar('skip_gain', out) * ALPHA + shortcut

    def branch(self, out: jax.Array) -> jax.Array:
        """The residual branch, before it is scaled."""
        out = self.conv1(self.activation(self.conv0(out)))
        out = out * 2 * self.squeeze_excite(out)  # 2: the sigmoid's mean is a half at the start.
        return self.conv2(self.activation(out))


class NFRegNet(hk.Module):
    """A normalizer-free RegNet, or one of its blocks with other widths and depths."""

    def __init__(
        self,
        num_classes: int,
        variant: str | Variant = 'B0',
        *,
        dropout_rate: float | None = None,
        stochastic_depth_rate: float = 0.1,
        activation: str = 'silu',
        layout: ParamLayout = UNSTACKED,
        remat: bool = False,
        name: str = 'NF_RegNet',
    ):
        """Creates the network: variant 'B0' .. 'B8' or a `Variant`, other arguments as of `NFNet`."""
        super().__init__(name=name)
        variant, self.dropout_rate = choose(variant, REGNETS, dropout_rate)
        self.activation = ACTIVATIONS[activation]
        self.layout, self.remat = layout, remat
        self.initial_conv = WSConv2D(variant.widths[0], 3, 2, name='initial_conv')
        places = lay_out(
            variant.widths, variant.depths, first_stride=2, stochastic_depth_rate=stochastic_depth_rate
        )
        self.stages = make_stages(
            places, lambda place: NFRegBlock(place, variant, self.activation, name='nf_block')
        )
        head, last = _HEAD_RATIO
        self.final_conv = WSConv2D(head * variant.widths[-1] // last, 1, name='final_conv')
        self.linear = hk.Linear(num_classes, w_init=jnp.zeros, name='linear')

    def __call__(self, images: jax.Array, is_training: bool) -> Outputs:
        """Classifies images [N, H, W, 3] as `NFNet` does."""
        grids = run_stages(
            self.stages, self.initial_conv(images), is_training, layout=self.layout, remat=self.remat
        )
        out = self.activation(self.final_conv(grids[-1]))
        return pooled_outputs(self.linear, out, grids, self.dropout_rate, is_training)
