"""ResNet: pre-activation ResNets with batch normalization (He et al. 2016, arXiv 1603.05027).

The baseline of NF-ResNets, with their stem, widths and depths. It gives the logits of Haiku's own ResNet,
which has exactly four stages, and neither stochastic depth nor dropout.
"""

import haiku as hk
import jax
import jax.numpy as jnp

from nfnets.models.activations import PLAIN_ACTIVATIONS, Activation
from nfnets.models.layers import Conv2D, Outputs, grouped, pooled_outputs, stem_pool, stochastic_depth
from nfnets.models.nf_resnet import BOTTLENECK_RATIO
from nfnets.models.stages import BlockSetting, Place, lay_out, make_stages, run_stages
from nfnets.models.variants import RESNETS, Variant, choose

_DECAY = 0.9  # Of the EMA of the statistics, as in the code released with arXiv 2102.06171.


def batch_norm(name: str) -> hk.BatchNorm:
    """Batch normalization with a learned scale and offset (Ioffe & Szegedy 2015, arXiv 1502.03167)."""
    return hk.BatchNorm(create_scale=True, create_offset=True, decay_rate=_DECAY, name=name)


def batch_normalize(norm: hk.BatchNorm, x: jax.Array, is_training: bool) -> jax.Array:
    """Normalizes [N, H, W, C] by the batch's statistics in training, else by their EMA.

    Statistics are of the examples on this device, and in float32 at least: in bfloat16 nothing would be left
    of a variance that is small beside the mean.
    """
    wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    # Haiku makes the EMA in training alone.
    return norm(wide, is_training or hk.running_init()).astype(x.dtype)


class ResBlock(hk.Module):
    """Pre-activation bottleneck block: 1x1, 3x3, 1x1, each after normalization and activation."""

    def __init__(self, place: Place, variant: Variant, activation: Activation, name: str | None = None):
        """Creates the block: its place in its network of a variant, its activation and name."""
        super().__init__(name=name)
        self.place = place
        self.activation = activation
        width, groups = grouped(int(place.channels * BOTTLENECK_RATIO), variant.group_width)
        self.bn0, self.bn1, self.bn2 = (batch_norm(f'bn{i}') for i in range(3))
        self.conv0 = Conv2D(width, 1, with_bias=False, name='conv0')
        self.conv1 = Conv2D(width, 3, place.stride, groups, with_bias=False, name='conv1')
        self.conv2 = Conv2D(place.channels, 1, with_bias=False, name='conv2')
        if place.is_transition:
            shortcut = Conv2D(place.channels, 1, place.stride, with_bias=False, name='conv_shortcut')
            self.conv_shortcut = shortcut

    def __call__(self, x: jax.Array, setting: BlockSetting, is_training: bool) -> jax.Array:
        """[N, H, W, I] -> [N, ceil(H / stride), ceil(W / stride), channels]."""
        out = self.activation(batch_normalize(self.bn0, x, is_training))
        shortcut = self.conv_shortcut(out) if self.place.is_transition else x
        return stochastic_depth(self.branch(out, is_training), setting.drop_rate, is_training) + shortcut

    def branch(self, out: jax.Array, is_training: bool) -> jax.Array:
        """The residual branch."""
        out = self.activation(batch_normalize(self.bn1, self.conv0(out), is_training))
        out = self.activation(batch_normalize(self.bn2, self.conv1(out), is_training))
        return self.conv2(out)


class ResNet(hk.Module):
    """A batch-normalized pre-activation ResNet, or one of its blocks with other widths and depths."""

    def __init__(
        self,
        num_classes: int,
        variant: str | Variant = 'ResNet50',
        *,
        dropout_rate: float | None = None,
        stochastic_depth_rate: float = 0.0,
        activation: str = 'relu',
        name: str = 'ResNet',
    ):
        """Creates the network: arguments as of `NFResNet`; activations are not scaled."""
        super().__init__(name=name)
        variant, self.dropout_rate = choose(variant, RESNETS, dropout_rate)
        self.activation = PLAIN_ACTIVATIONS[activation]
        self.initial_conv = Conv2D(variant.widths[0] // 4, 7, 2, with_bias=False, name='initial_conv')
        places = lay_out(variant.widths, variant.depths, stochastic_depth_rate=stochastic_depth_rate)
        self.stages = make_stages(places, lambda place: ResBlock(place, variant, self.activation))
        self.final_bn = batch_norm('final_bn')
        self.linear = hk.Linear(num_classes, w_init=jnp.zeros, name='linear')

    def __call__(self, images: jax.Array, is_training: bool) -> Outputs:
        """Classifies images [N, H, W, 3] as `NFNet` does; inside `hk.transform_with_state`."""
        grids = self.grids(images, is_training)
        out = self.activation(batch_normalize(self.final_bn, grids[-1], is_training))
        return pooled_outputs(self.linear, out, grids, self.dropout_rate, is_training)

    def grids(self, images: jax.Array, is_training: bool) -> tuple[jax.Array, ...]:
        """The feature maps of each stage, as of `NFNet`."""
        out = stem_pool(self.initial_conv(images))
        return run_stages(self.stages, out, is_training)
