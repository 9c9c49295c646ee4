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
    WSConv2D,
    attention_layer,
    average_pool,
    grouped,
    initial_gain,
    pooled_outputs,
    rounded,
    scaled_branch,
    stochastic_depth,
)
from nfnets.models.param_layout import UNSTACKED, ParamLayout
from nfnets.models.stages import ALPHA, BlockSetting, Place, lay_out, make_stages, run_stages
from nfnets.models.variants import NF_REGNETS, Variant, choose

_EXPANSION = 2.25  # Width of the 3x3 convolution to the block's input, but in the first block.
_HEAD_RATIO = (1280, 440)  # Channels of the last convolution to those of the last stage.


def num_features(variant: Variant) -> int:
    """Channels of the last convolution, which the classifier sees."""
    if variant.features_ratio is not None:
        return round(variant.widths[-1] * variant.features_ratio)
    head, last = _HEAD_RATIO
    return head * variant.widths[-1] // last


class NFRegBlock(hk.Module):
    """Pre-activation block: 1x1 that widens, grouped 3x3, squeeze-excite, 1x1."""

    def __init__(self, place: Place, variant: Variant, activation: Activation, name: str | None = None):
        """Creates the block; arguments as of `NFBlock`."""
        super().__init__(name=name)
        self.place, self.variant = place, variant
        self.activation = activation
        multiple = variant.width_multiple
        inner = place.channels if place.inputs is None else rounded(place.inputs * _EXPANSION, multiple)
        width, groups = grouped(inner, variant.group_width)
        self.conv0 = WSConv2D(width, 1, name='conv0')
        self.conv1 = WSConv2D(width, 3, place.stride, groups, padding=variant.padding, name='conv1')
        self.conv2 = WSConv2D(place.channels, 1, gain_init=initial_gain(variant.skip_gain), name='conv2')
        if place.is_transition:
            self.conv_shortcut = WSConv2D(place.channels, 1, name='conv_shortcut')
        self.attention = attention_layer(variant.attention, width, variant.squeeze_ratio, multiple)

    def __call__(self, x: jax.Array, setting: BlockSetting, is_training: bool) -> jax.Array:
        """[N, H, W, I] -> [N, ceil(H / stride), ceil(W / stride), channels]."""
        out = self.activation(x) * jnp.asarray(1 / setting.beta, x.dtype)
        shortcut = x
        if self.place.is_transition:
            shortcut = self.conv_shortcut(average_pool(out, self.place.stride))
        out = stochastic_depth(self.branch(out), setting.drop_rate, is_training)
        return scaled_branch(out, ALPHA, self.variant.skip_gain) + shortcut

    def branch(self, out: jax.Array) -> jax.Array:
        """The residual branch, before it is scaled."""
        out = self.conv1(self.activation(self.conv0(out)))
        out = out * 2 * self.attention(out)  # 2: the sigmoid's mean is a half at the start.
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
        activation: str | None = None,
        layout: ParamLayout = UNSTACKED,
        remat: bool = False,
        name: str = 'NF_RegNet',
    ):
        """Creates the network; arguments not listed as of `NFNet`.

        Args:
          num_classes: number of logits.
          variant: 'B0' .. 'B8', timm's 'nf_regnet_b1', or a `Variant`.
          dropout_rate: of the pooled features in training.
          stochastic_depth_rate: drop rate that would follow the last block.
          activation: None: the variant's, or the released code's, 'silu'.
          layout: of the parameters.
          remat: rematerialize each block in the backward pass.
          name: first part of every parameter's name.
        """
        super().__init__(name=name)
        variant, self.dropout_rate = choose(variant, NF_REGNETS, dropout_rate)
        self.activation = ACTIVATIONS[activation or variant.activation or 'silu']
        self.layout, self.remat = layout, remat
        self.initial_conv = WSConv2D(variant.widths[0], 3, 2, padding=variant.padding, name='initial_conv')
        places = lay_out(
            variant.widths, variant.depths, first_stride=2, stochastic_depth_rate=stochastic_depth_rate
        )
        self.stages = make_stages(
            places, lambda place: NFRegBlock(place, variant, self.activation, name='nf_block')
        )
        self.final_conv = WSConv2D(num_features(variant), 1, name='final_conv')
        self.linear = hk.Linear(num_classes, w_init=jnp.zeros, name='linear')

    def __call__(self, images: jax.Array, is_training: bool) -> Outputs:
        """Classifies images [N, H, W, 3] as `NFNet` does."""
        grids = self.grids(images, is_training)
        out = self.activation(self.final_conv(grids[-1]))
        return pooled_outputs(self.linear, out, grids, self.dropout_rate, is_training)

    def grids(self, images: jax.Array, is_training: bool) -> tuple[jax.Array, ...]:
        """The feature maps of each stage, as of `NFNet`."""
        out = self.initial_conv(images)
        return run_stages(self.stages, out, is_training, layout=self.layout, remat=self.remat)
