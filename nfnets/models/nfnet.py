"""NFNet (Brock et al. 2021, arXiv 2102.06171, section 4.2, figure 3 and appendix C).

Names and shapes of the parameters are those of the released weights. Checked against the numbers that
the released code gives (tests/golden). Where paper and released code differ, the released code is
followed: plain ReLU inside squeeze-excite, no division by the keep probability in stochastic depth.
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
    scaled_branch,
    stochastic_depth,
)
from nfnets.models.param_layout import UNSTACKED, ParamLayout
from nfnets.models.stages import ALPHA, BlockSetting, Place, lay_out, make_stages, run_stages
from nfnets.models.stem import run_stem
from nfnets.models.variants import NFNETS, Variant, choose

BOTTLENECK_RATIO = 0.5  # Width of the 3x3 convolutions to the block's.
_FEATURES_RATIO = 2.0  # Channels of the last convolution to those of the last stage.
_STEM = ((16, 2), (32, 1), (64, 1))  # Channels and stride of all but the last convolution.


def lay_out_stem(width: int) -> list[tuple[int, int]]:
    """Channels and stride of the stem's convolutions, before a first stage of that width."""
    return [*_STEM, (width // 2, 2)]


def num_features(variant: Variant) -> int:
    """Channels of the last convolution, which the classifier sees."""
    return round(variant.widths[-1] * (variant.features_ratio or _FEATURES_RATIO))


class NFBlock(hk.Module):
    """Pre-activation bottleneck block with one or two grouped 3x3 convolutions and channel attention."""

    def __init__(self, place: Place, variant: Variant, activation: Activation, name: str | None = None):
        """Creates the block.

        Args:
          place: of the block in its network.
          variant: whose blocks it is one of.
          activation: a variance-preserving one.
          name: of the module.
        """
        super().__init__(name=name)
        self.place, self.variant = place, variant
        self.activation = activation
        inner = int(place.channels * (variant.bottleneck_ratio or BOTTLENECK_RATIO))
        width, groups = grouped(inner, variant.group_width)
        self.conv0 = WSConv2D(width, 1, name='conv0')
        self.conv1 = WSConv2D(width, 3, place.stride, groups, padding=variant.padding, name='conv1')
        self.conv1b = WSConv2D(width, 3, 1, groups, name='conv1b') if variant.second_conv else None
        self.conv2 = WSConv2D(place.channels, 1, gain_init=initial_gain(variant.skip_gain), name='conv2')
        if place.is_transition:
            self.conv_shortcut = WSConv2D(place.channels, 1, name='conv_shortcut')
        self.attention = attention_layer(variant.attention, place.channels, variant.squeeze_ratio)

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
        out = self.activation(self.conv0(out))
        out = self.activation(self.conv1(out))
        if self.conv1b is not None:
            out = self.activation(self.conv1b(out))
        out = self.conv2(out)
        return out * 2 * self.attention(out)  # 2: the sigmoid's mean is a half at the start.


class NFNet(hk.Module):
    """A normalizer-free network of the F-family, or of its blocks with other widths and depths."""

    def __init__(
        self,
        num_classes: int,
        variant: str | Variant = 'F0',
        *,
        dropout_rate: float | None = None,
        stochastic_depth_rate: float = 0.25,
        activation: str | None = None,
        layout: ParamLayout = UNSTACKED,
        remat: bool = False,
        name: str = 'NFNet',
    ):
        """Creates the network.

        Args:
          num_classes: number of logits.
          variant: name of a member of the family ('F0' .. 'F7', 'F0+' .. 'F7+') or of a light one of timm's
            ('nfnet_l0', 'eca_nfnet_l0' .. 'eca_nfnet_l2'), or a `Variant` of one's own.
          dropout_rate: of the pooled features in training; None: that of the named variant's recipe, else 0.
          stochastic_depth_rate: drop rate that would follow the last block; it grows linearly with
            depth, from 0 at the first.
          activation: 'gelu', 'relu' or 'silu'; None: the variant's, or the paper's, 'gelu'.
          layout: of the parameters that it is applied to; initial ones are always unstacked.
          remat: rematerialize each block in the backward pass instead of keeping what is in it.
          name: first part of every parameter's name; the released weights have 'NFNet'.

        Raises:
          InputError: the variant does not exist.
        """
        super().__init__(name=name)
        variant, self.dropout_rate = choose(variant, NFNETS, dropout_rate)
        self.activation = ACTIVATIONS[activation or variant.activation or 'gelu']
        self.layout, self.remat, self.padding = layout, remat, variant.padding
        self.stem = [
            WSConv2D(channels, 3, stride, name=f'stem_conv{i}')
            for i, (channels, stride) in enumerate(lay_out_stem(variant.widths[0]))
        ]
        places = lay_out(variant.widths, variant.depths, stochastic_depth_rate=stochastic_depth_rate)
        self.stages = make_stages(
            places, lambda place: NFBlock(place, variant, self.activation, name='nf_block')
        )
        self.final_conv = WSConv2D(num_features(variant), 1, name='final_conv')
        self.linear = hk.Linear(num_classes, w_init=hk.initializers.RandomNormal(stddev=0.01), name='linear')

    def __call__(self, images: jax.Array, is_training: bool) -> Outputs:
        """Classifies images.

        Args:
          images: [N, H, W, 3], normalized.
          is_training: with dropout and stochastic depth, which need a random key.

        Returns:
          'logits' [N, num_classes], 'pool' [N, C], see `pooled_outputs`, and the `grids`.
        """
        grids = self.grids(images, is_training)
        out = self.activation(self.final_conv(grids[-1]))
        return pooled_outputs(self.linear, out, grids, self.dropout_rate, is_training)

    def grids(self, images: jax.Array, is_training: bool) -> tuple[jax.Array, ...]:
        """The feature maps of each stage; applied alone, the network has no parameters behind the stages.

        Args:
          images: [N, H, W, 3], normalized.
          is_training: with stochastic depth, which needs a random key.

        Returns:
          Of each stage [N, H / s, W / s, C], rounded up, with s = 4, 8, 16, 32 px, before the activation that
          follows.
        """
        inputs = [images.shape[-1], *(conv.output_channels for conv in self.stem)]
        kernels = [
            conv.kernel_and_bias(channels, images.dtype)
            for conv, channels in zip(self.stem, inputs, strict=False)
        ]
        with jax.named_scope('stem'):
            strides = [conv.stride for conv in self.stem]
            out = run_stem(images, kernels, strides, self.activation, self.padding)
        return run_stages(self.stages, out, is_training, layout=self.layout, remat=self.remat)
