"""Fixup ResNet: without normalization, by initialization alone (Zhang et al. 2019, arXiv 1901.09321).

A baseline of NF-ResNets, with their stem, widths and depths, but with the activation after the sum. Names
and shapes of the parameters, and how blocks start, are those of the code released with arXiv 2102.06171. As
there, all parameters learn at one rate; the authors of Fixup give scalars a tenth of it.
"""

import haiku as hk
import jax
import jax.numpy as jnp

from nfnets.models.activations import PLAIN_ACTIVATIONS, Activation
from nfnets.models.layers import Conv2D, Outputs, grouped, pooled_outputs, scalar, stem_pool, stochastic_depth
from nfnets.models.nf_resnet import BOTTLENECK_RATIO
from nfnets.models.param_layout import UNSTACKED, ParamLayout
from nfnets.models.stages import BlockSetting, Place, lay_out, make_stages, run_stages
from nfnets.models.variants import RESNETS, Variant, choose


class FixupBlock(hk.Module):
    """Bottleneck block: 1x1, 3x3, 1x1, with a scalar bias before each convolution and activation."""

    def __init__(self, place: Place, variant: Variant, activation: Activation, name: str | None = None):
        """Creates the block: its place in its network of a variant, its activation and name."""
        super().__init__(name=name)
        self.place = place
        self.activation = activation
        width, groups = grouped(int(place.channels * BOTTLENECK_RATIO), variant.group_width)

        def conv(
            name: str, outputs: int, size: int, stride: int = 1, groups: int = 1, scale: float = 1.0
        ) -> Conv2D:
            w_init = hk.initializers.RandomNormal(scale * (2 / (outputs * size**2)) ** 0.5)
            return Conv2D(outputs, size, stride, groups, with_bias=False, w_init=w_init, name=name)

        # Of L blocks: what is not initialized to 0 in a branch starts L^(-1/4) smaller.
        shrink = sum(variant.depths) ** -0.25
        self.conv0 = conv('conv0', width, 1, scale=shrink)
        self.conv1 = conv('conv1', width, 3, place.stride, groups, scale=shrink)
        self.conv2 = conv('conv2', place.channels, 1, scale=0.0)
        if place.is_transition:
            self.conv_shortcut = conv('conv_shortcut', place.channels, 1, place.stride)

    def __call__(self, x: jax.Array, setting: BlockSetting, is_training: bool) -> jax.Array:
        """[N, H, W, I] -> [N, ceil(H / stride), ceil(W / stride), channels]."""
        out = x + scalar('bias1a', x)
        shortcut = self.conv_shortcut(out) if self.place.is_transition else out
        out = stochastic_depth(self.branch(out), setting.drop_rate, is_training)
        return self.activation(out + shortcut)

    def branch(self, out: jax.Array) -> jax.Array:
        """The residual branch."""
        out = self.activation(self.conv0(out) + scalar('bias1b', out))
        out = self.activation(self.conv1(out + scalar('bias2a', out)) + scalar('bias2b', out))
        scale = scalar('scale', out, init=jnp.ones)
        return self.conv2(out + scalar('bias3a', out)) * scale + scalar('bias3b', out)


class FixupResNet(hk.Module):
    """A ResNet with Fixup, or one of its blocks with other widths and depths."""

    def __init__(
        self,
        num_classes: int,
        variant: str | Variant = 'ResNet50',
        *,
        dropout_rate: float | None = None,
        stochastic_depth_rate: float = 0.1,
        activation: str = 'relu',
        layout: ParamLayout = UNSTACKED,
        remat: bool = False,
        name: str = 'FixUp_ResNet',
    ):
        """Creates the network: arguments as of `NFResNet`; activations are not scaled."""
        super().__init__(name=name)
        variant, self.dropout_rate = choose(variant, RESNETS, dropout_rate)
        self.activation = PLAIN_ACTIVATIONS[activation]
        self.layout, self.remat = layout, remat
        self.initial_conv = Conv2D(variant.widths[0] // 4, 7, 2, with_bias=False, name='initial_conv')
        places = lay_out(variant.widths, variant.depths, stochastic_depth_rate=stochastic_depth_rate)
        self.stages = make_stages(
            places, lambda place: FixupBlock(place, variant, self.activation, name='res_block')
        )
        self.linear = hk.Linear(num_classes, w_init=jnp.zeros, name='linear')

    def __call__(self, images: jax.Array, is_training: bool) -> Outputs:
        """Classifies images [N, H, W, 3] as `NFNet` does."""
        grids = self.grids(images, is_training)
        return pooled_outputs(self.linear, grids[-1], grids, self.dropout_rate, is_training, bias='bias2')

    def grids(self, images: jax.Array, is_training: bool) -> tuple[jax.Array, ...]:
        """The feature maps of each stage, as of `NFNet`."""
        out = stem_pool(self.activation(self.initial_conv(images) + scalar('bias1', images)))
        return run_stages(self.stages, out, is_training, layout=self.layout, remat=self.remat)
