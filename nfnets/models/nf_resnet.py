"""NF-ResNet: pre-activation ResNets without normalization (Brock et al. 2021, arXiv 2101.08692, section 4).

Names and shapes of the parameters, and the outputs, are those of the code released with arXiv 2102.06171:
strided shortcuts are strided 1x1 convolutions, with pooling before them only in timm's variant, and
squeeze-excite, last in a branch, is there only on request.
"""

from typing import NamedTuple

import haiku as hk
import jax
import jax.numpy as jnp

from nfnets.models.activations import ACTIVATIONS, PLAIN_ACTIVATIONS, Activation
from nfnets.models.layers import (
    Conv2D,
    Outputs,
    SqueezeExcite,
    WSConv2D,
    average_pool,
    grouped,
    initial_gain,
    pooled_outputs,
    scaled_branch,
    stem_pool,
    stochastic_depth,
)
from nfnets.models.param_layout import UNSTACKED, ParamLayout
from nfnets.models.stages import ALPHA, BlockSetting, Place, lay_out, make_stages, run_stages
from nfnets.models.variants import NF_RESNETS, Variant, choose

BOTTLENECK_RATIO = 0.25  # Width of the 3x3 convolution to the block's.
_SQUEEZE_RATIO = 0.25  # Hidden width of squeeze-excite to the block's.


class BlockStyle(NamedTuple):
    """Settings that all blocks of an NF-ResNet or SkipInit ResNet share.

    Attributes:
      activation: one that keeps the variance, together with the convolution.
      conv: of all convolutions.
      alpha: scale of the branch.
      squeeze_excite: whether the branch ends with it.
    """

    activation: Activation
    conv: type[WSConv2D] | type[Conv2D]
    alpha: float
    squeeze_excite: bool = False


class NFResBlock(hk.Module):
    """Pre-activation bottleneck block: 1x1, 3x3, 1x1."""

    def __init__(self, place: Place, variant: Variant, style: BlockStyle, name: str | None = None):
        """Creates the block: its place in its network, whose variant it has, its style and name."""
        super().__init__(name=name)
        self.place, self.variant = place, variant
        self.style = style
        width, groups = grouped(int(place.channels * BOTTLENECK_RATIO), variant.group_width)
        self.conv0 = style.conv(width, 1, name='conv0')
        self.conv1 = style.conv(width, 3, place.stride, groups, padding=variant.padding, name='conv1')
        self.conv2 = style.conv(place.channels, 1, gain_init=initial_gain(variant.skip_gain), name='conv2')
        if place.is_transition:
            stride = 1 if variant.pooled_shortcut else place.stride
            self.conv_shortcut = style.conv(place.channels, 1, stride, name='conv_shortcut')
        if style.squeeze_excite:
            self.squeeze_excite = SqueezeExcite(place.channels, _SQUEEZE_RATIO, name='squeeze_excite')

    def __call__(self, x: jax.Array, setting: BlockSetting, is_training: bool) -> jax.Array:
        """[N, H, W, I] -> [N, ceil(H / stride), ceil(W / stride), channels]."""
        out = self.style.activation(x) * jnp.asarray(1 / setting.beta, x.dtype)
        shortcut = x
        if self.place.is_transition:
            pooled = self.variant.pooled_shortcut
            shortcut = self.conv_shortcut(average_pool(out, self.place.stride) if pooled else out)
        out = stochastic_depth(self.branch(out), setting.drop_rate, is_training)
        return scaled_branch(out, self.style.alpha, self.variant.skip_gain) + shortcut

    def branch(self, out: jax.Array) -> jax.Array:
        """The residual branch, before it is scaled."""
        out = self.style.activation(self.conv0(out))
        out = self.conv2(self.style.activation(self.conv1(out)))
        return out * 2 * self.squeeze_excite(out) if self.style.squeeze_excite else out


class NFResNet(hk.Module):
    """A normalizer-free ResNet, or one of its blocks with other widths and depths."""

    def __init__(
        self,
        num_classes: int,
        variant: str | Variant = 'ResNet50',
        *,
        dropout_rate: float | None = None,
        stochastic_depth_rate: float = 0.1,
        activation: str | None = None,
        alpha: float = ALPHA,
        squeeze_excite: bool = False,
        weight_standardization: bool = True,
        layout: ParamLayout = UNSTACKED,
        remat: bool = False,
        name: str = 'NF_ResNet',
    ):
        """Creates the network; arguments not listed as of `NFNet`.

        Args:
          num_classes: number of logits.
          variant: 'ResNet50', 'ResNet101', 'ResNet152', 'ResNet200', 'ResNet288' or 'ResNet600', timm's
            'nf_resnet50', or a `Variant` of one's own.
          dropout_rate: of the pooled features in training.
          stochastic_depth_rate: drop rate that would follow the last block.
          activation: 'relu', 'gelu' or 'silu'; None: the variant's, or the released code's, 'relu'.
          alpha: scale of each residual branch.
          squeeze_excite: whether each branch ends with it.
          weight_standardization: without it, convolutions are ordinary ones initialized after He et al. 2015,
            and activations are not scaled: what the paper shows to go wrong.
          layout: of the parameters.
          remat: rematerialize each block in the backward pass.
          name: first part of every parameter's name.

        Raises:
          InputError: the variant does not exist.
        """
        super().__init__(name=name)
        variant, self.dropout_rate = choose(variant, NF_RESNETS, dropout_rate)
        functions = ACTIVATIONS if weight_standardization else PLAIN_ACTIVATIONS
        self.activation = functions[activation or variant.activation or 'relu']
        self.padding = variant.padding
        self.layout, self.remat = layout, remat
        conv = WSConv2D if weight_standardization else Conv2D
        style = BlockStyle(self.activation, conv, alpha, squeeze_excite)
        self.initial_conv = conv(variant.widths[0] // 4, 7, 2, padding=self.padding, name='initial_conv')
        places = lay_out(
            variant.widths, variant.depths, stochastic_depth_rate=stochastic_depth_rate, alpha=alpha
        )
        self.stages = make_stages(places, lambda place: NFResBlock(place, variant, style))
        self.linear = hk.Linear(num_classes, w_init=hk.initializers.RandomNormal(stddev=0.01), name='linear')

    def __call__(self, images: jax.Array, is_training: bool) -> Outputs:
        """Classifies images [N, H, W, 3] as `NFNet` does."""
        grids = self.grids(images, is_training)
        out = self.activation(grids[-1])
        return pooled_outputs(self.linear, out, grids, self.dropout_rate, is_training)

    def grids(self, images: jax.Array, is_training: bool) -> tuple[jax.Array, ...]:
        """The feature maps of each stage, as of `NFNet`."""
        out = stem_pool(self.initial_conv(images), self.padding)
        return run_stages(self.stages, out, is_training, layout=self.layout, remat=self.remat)
