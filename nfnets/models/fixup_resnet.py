"""Fixup ResNet: without normalisation, by initialisation alone (Zhang et al. 2019, arXiv 1901.09321).

A baseline of NF-ResNets, with their stem, widths and depths, but with the activation after the sum. Names
and shapes of the parameters, and how blocks start, are those of the code released with arXiv 2102.06171. As
there, all parameters learn at one rate; the authors of Fixup give scalars a tenth of it.
"""

import haiku as hk
import jax
import jax.numpy as jnp

from nfnets.models.activations import PLAIN_ACTIVATIONS, Activation
from nfnets.models.layers import Conv2D, dropout, grouped, stochastic_depth
from nfnets.models.nf_resnet import BOTTLENECK_RATIO
from nfnets.models.stages import BlockSetting, lay_out, make_stages, run_stages
from nfnets.variants import RESNETS, Variant, get_variant


def _scalar(name: str, x: jax.Array) -> jax.Array:
    return hk.get_parameter(name, (), x.dtype, init=jnp.zeros)


class FixupBlock(hk.Module):
    """Bottleneck block: 1x1, 3x3, 1x1, with a scalar bias before each convolution and activation."""

    def __init__(
        self,
        channels: int,
        *,
        num_blocks: int,
        stride: int,
        is_transition: bool,
        group_width: int | None,
        activation: Activation,
        name: str | None = None,
    ):
        """Creates the block.

        Args:
          channels: of the output.
          num_blocks: L, of the network: what is not initialised to 0 starts L^(-1/4) smaller in a branch.
          stride: of the 3x3 convolution and the shortcut; more than 1 only in a transition.
          is_transition: first block of a stage, whose shortcut is a convolution.
          group_width: of the 3x3 convolution, see `grouped`.
          activation: after the first two convolutions and the sum.
          name: of the module.
        """
        super().__init__(name=name)
        self.is_transition = is_transition
        self.activation = activation
        width, groups = grouped(int(channels * BOTTLENECK_RATIO), group_width)

        def conv(
            name: str, outputs: int, size: int, stride: int = 1, groups: int = 1, scale: float = 1.0
        ) -> Conv2D:
            w_init = hk.initializers.RandomNormal(scale * (2 / (outputs * size**2)) ** 0.5)
            return Conv2D(outputs, size, stride, groups, with_bias=False, w_init=w_init, name=name)

        shrink = num_blocks**-0.25
        self.conv0 = conv('conv0', width, 1, scale=shrink)
        self.conv1 = conv('conv1', width, 3, stride, groups, scale=shrink)
        self.conv2 = conv('conv2', channels, 1, scale=0.0)
        if is_transition:
            self.conv_shortcut = conv('conv_shortcut', channels, 1, stride)

    def __call__(self, x: jax.Array, setting: BlockSetting, is_training: bool) -> jax.Array:
        """[N, H, W, I] -> [N, ceil(H / stride), ceil(W / stride), channels]."""
        out = x + _scalar('bias1a', x)
        shortcut = self.conv_shortcut(out) if self.is_transition else out
        out = self.branch(out)
        if is_training and setting.drop_rate is not None:
            out = stochastic_depth(out, setting.drop_rate)
        return self.activation(out + shortcut)

    def branch(self, out: jax.Array) -> jax.Array:
        """The residual branch."""
        out = self.activation(self.conv0(out) + _scalar('bias1b', out))
        out = self.activation(self.conv1(out + _scalar('bias2a', out)) + _scalar('bias2b', out))
        scale = hk.get_parameter('scale', (), out.dtype, init=jnp.ones)
        return self.conv2(out + _scalar('bias3a', out)) * scale + _scalar('bias3b', out)


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
        remat: bool = False,
        name: str = 'FixUp_ResNet',
    ):
        """Creates the network: arguments as of `NFResNet`; activations are not scaled."""
        super().__init__(name=name)
        variant = get_variant(variant, RESNETS) if isinstance(variant, str) else variant
        self.dropout_rate = variant.dropout_rate if dropout_rate is None else dropout_rate
        self.activation = PLAIN_ACTIVATIONS[activation]
        self.remat = remat
        self.initial_conv = Conv2D(variant.widths[0] // 4, 7, 2, with_bias=False, name='initial_conv')
        self.stages = make_stages(
            lay_out(variant.widths, variant.depths, stochastic_depth_rate=stochastic_depth_rate),
            lambda place: FixupBlock(
                place.channels,
                num_blocks=sum(variant.depths),
                stride=place.stride,
                is_transition=place.is_transition,
                group_width=variant.group_width,
                activation=self.activation,
                name='res_block',
            ),
        )
        self.linear = hk.Linear(num_classes, w_init=jnp.zeros, name='linear')

    def __call__(self, images: jax.Array, is_training: bool) -> dict[str, jax.Array]:
        """Classifies images; as of `NFResNet`."""
        out = self.activation(self.initial_conv(images) + _scalar('bias1', images))
        out = hk.max_pool(out, (1, 3, 3, 1), (1, 2, 2, 1), padding='SAME')
        out = run_stages(self.stages, out, is_training, remat=self.remat)
        pool = jnp.mean(out, axis=(1, 2))
        features = dropout(pool, self.dropout_rate, is_training) + _scalar('bias2', pool)
        return {'logits': self.linear(features), 'pool': pool}
