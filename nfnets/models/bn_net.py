"""BNNet: the NFNet with batch normalization in place of all that does without it (arXiv 2102.06171, table 6).

Plain convolutions, each followed by batch normalization before the activation; branches and activations are
not scaled. Widths, depths, stem, squeeze-excite and the place of all else are the NFNet's. The paper does not
say more of its own network.
"""

import haiku as hk
import jax

from nfnets.models.activations import PLAIN_ACTIVATIONS, Activation
from nfnets.models.layers import (
    Conv2D,
    Outputs,
    SqueezeExcite,
    average_pool,
    grouped,
    pooled_outputs,
    stochastic_depth,
)
from nfnets.models.nfnet import BOTTLENECK_RATIO, lay_out_stem
from nfnets.models.resnet import batch_norm, batch_normalize
from nfnets.models.stages import BlockSetting, Place, lay_out, make_stages, run_stages
from nfnets.models.variants import VARIANTS, Variant, choose


class BNBlock(hk.Module):
    """Pre-activation bottleneck block of an NFNet, batch-normalized."""

    def __init__(self, place: Place, variant: Variant, activation: Activation, name: str | None = None):
        """Creates the block; arguments as of `NFBlock`, the activation not scaled."""
        super().__init__(name=name)
        self.place = place
        self.activation = activation
        width, groups = grouped(int(place.channels * BOTTLENECK_RATIO), variant.group_width)
        self.bn_in = batch_norm('bn_in')
        self.convs = [Conv2D(width, 1, with_bias=False, name='conv0')]
        self.convs.append(Conv2D(width, 3, place.stride, groups, with_bias=False, name='conv1'))
        if variant.second_conv:
            self.convs.append(Conv2D(width, 3, 1, groups, with_bias=False, name='conv1b'))
        self.norms = [batch_norm(f'bn_{conv.name}') for conv in self.convs]
        self.conv2 = Conv2D(place.channels, 1, with_bias=False, name='conv2')
        if place.is_transition:
            self.conv_shortcut = Conv2D(place.channels, 1, with_bias=False, name='conv_shortcut')
        self.squeeze_excite = SqueezeExcite(place.channels, name='squeeze_excite')

    def __call__(self, x: jax.Array, setting: BlockSetting, is_training: bool) -> jax.Array:
        """[N, H, W, I] -> [N, ceil(H / stride), ceil(W / stride), channels]."""
        out = self.activation(batch_normalize(self.bn_in, x, is_training))
        shortcut = x
        if self.place.is_transition:
            shortcut = self.conv_shortcut(average_pool(out, self.place.stride))
        return stochastic_depth(self.branch(out, is_training), setting.drop_rate, is_training) + shortcut

    def branch(self, out: jax.Array, is_training: bool) -> jax.Array:
        """The residual branch."""
        for conv, norm in zip(self.convs, self.norms, strict=True):
            out = self.activation(batch_normalize(norm, conv(out), is_training))
        out = self.conv2(out)
        return out * self.squeeze_excite(out)


class BNNet(hk.Module):
    """An NFNet's batch-normalized twin."""

    def __init__(
        self,
        num_classes: int,
        variant: str | Variant = 'F0',
        *,
        dropout_rate: float | None = None,
        stochastic_depth_rate: float = 0.25,
        activation: str = 'gelu',
        name: str = 'BNNet',
    ):
        """Creates the network; arguments as of `NFNet`."""
        super().__init__(name=name)
        variant, self.dropout_rate = choose(variant, VARIANTS, dropout_rate)
        self.activation = PLAIN_ACTIVATIONS[activation]
        self.stem = [
            Conv2D(channels, 3, stride, with_bias=False, name=f'stem_conv{i}')
            for i, (channels, stride) in enumerate(lay_out_stem(variant.widths[0]))
        ]
        self.stem_norms = [batch_norm(f'stem_bn{i}') for i in range(len(self.stem) - 1)]
        places = lay_out(variant.widths, variant.depths, stochastic_depth_rate=stochastic_depth_rate)
        self.stages = make_stages(places, lambda place: BNBlock(place, variant, self.activation))
        self.final_conv = Conv2D(2 * variant.widths[-1], 1, with_bias=False, name='final_conv')
        self.final_bn = batch_norm('final_bn')
        self.linear = hk.Linear(num_classes, w_init=hk.initializers.RandomNormal(stddev=0.01), name='linear')

    def __call__(self, images: jax.Array, is_training: bool) -> Outputs:
        """Classifies images [N, H, W, 3] as `NFNet` does; inside `hk.transform_with_state`."""
        grids = self.grids(images, is_training)
        out = self.activation(batch_normalize(self.final_bn, self.final_conv(grids[-1]), is_training))
        return pooled_outputs(self.linear, out, grids, self.dropout_rate, is_training)

    def grids(self, images: jax.Array, is_training: bool) -> tuple[jax.Array, ...]:
        """The feature maps of each stage, as of `NFNet`."""
        out = self.stem[0](images)
        for norm, conv in zip(self.stem_norms, self.stem[1:], strict=True):
            out = conv(self.activation(batch_normalize(norm, out, is_training)))
        return run_stages(self.stages, out, is_training)
