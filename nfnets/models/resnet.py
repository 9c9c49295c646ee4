"""ResNet: pre-activation ResNets with batch normalisation (He et al. 2016, arXiv 1603.05027).

The baseline of NF-ResNets, with their stem, widths and depths. It gives the logits of Haiku's own ResNet,
which has exactly four stages, and neither stochastic depth nor dropout.
"""

import haiku as hk
import jax
import jax.numpy as jnp

from nfnets.models.activations import PLAIN_ACTIVATIONS, Activation
from nfnets.models.layers import Conv2D, dropout, grouped, stochastic_depth
from nfnets.models.nf_resnet import BOTTLENECK_RATIO
from nfnets.models.stages import BlockSetting, lay_out, make_stages, run_stages
from nfnets.variants import RESNETS, Variant, get_variant

_DECAY = 0.9  # Of the statistics' moving averages, as in the code released with arXiv 2102.06171.


def batch_norm(name: str) -> hk.BatchNorm:
    """Batch normalisation with a learnt scale and offset (Ioffe & Szegedy 2015, arXiv 1502.03167)."""
    return hk.BatchNorm(create_scale=True, create_offset=True, decay_rate=_DECAY, name=name)


def normalise(norm: hk.BatchNorm, x: jax.Array, is_training: bool) -> jax.Array:
    """Normalises [N, H, W, C] by the batch's statistics in training, else by their moving averages.

    Statistics are of the examples on this device, and in float32 at least: in bfloat16 nothing would be left
    of a variance that is small beside the mean.
    """
    wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    # Haiku makes the averages in training alone.
    return norm(wide, is_training or hk.running_init()).astype(x.dtype)


class ResBlock(hk.Module):
    """Pre-activation bottleneck block: 1x1, 3x3, 1x1, each after normalisation and activation."""

    def __init__(
        self,
        channels: int,
        *,
        stride: int,
        is_transition: bool,
        group_width: int | None,
        activation: Activation,
        name: str | None = None,
    ):
        """Creates the block.

        Args:
          channels: of the output.
          stride: of the 3x3 convolution and the shortcut; more than 1 only in a transition.
          is_transition: first block of a stage, whose shortcut is a convolution.
          group_width: of the 3x3 convolution, see `grouped`.
          activation: after each normalisation.
          name: of the module.
        """
        super().__init__(name=name)
        self.is_transition = is_transition
        self.activation = activation
        width, groups = grouped(int(channels * BOTTLENECK_RATIO), group_width)
        self.bn0, self.bn1, self.bn2 = (batch_norm(f'bn{i}') for i in range(3))
        self.conv0 = Conv2D(width, 1, with_bias=False, name='conv0')
        self.conv1 = Conv2D(width, 3, stride, groups, with_bias=False, name='conv1')
        self.conv2 = Conv2D(channels, 1, with_bias=False, name='conv2')
        if is_transition:
            self.conv_shortcut = Conv2D(channels, 1, stride, with_bias=False, name='conv_shortcut')

    def __call__(self, x: jax.Array, setting: BlockSetting, is_training: bool) -> jax.Array:
        """[N, H, W, I] -> [N, ceil(H / stride), ceil(W / stride), channels]."""
        out = self.activation(normalise(self.bn0, x, is_training))
        shortcut = self.conv_shortcut(out) if self.is_transition else x
        out = self.branch(out, is_training)
        if is_training and setting.drop_rate is not None:
            out = stochastic_depth(out, setting.drop_rate)
        return out + shortcut

    def branch(self, out: jax.Array, is_training: bool) -> jax.Array:
        """The residual branch."""
        out = self.activation(normalise(self.bn1, self.conv0(out), is_training))
        out = self.activation(normalise(self.bn2, self.conv1(out), is_training))
        return self.conv2(out)


class ResNet(hk.Module):
    """A batch-normalised pre-activation ResNet, or one of its blocks with other widths and depths."""

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
        """Creates the network.

        Args:
          num_classes: number of logits.
          variant: as of `NFResNet`.
          dropout_rate: of the pooled features in training; the variant's if None.
          stochastic_depth_rate: drop rate that would follow the last block; it grows linearly with
            depth, from 0 at the first.
          activation: 'relu', 'gelu' or 'silu', not scaled.
          name: first part of every parameter's name.

        Raises:
          InputError: the variant does not exist.
        """
        super().__init__(name=name)
        variant = get_variant(variant, RESNETS) if isinstance(variant, str) else variant
        self.dropout_rate = variant.dropout_rate if dropout_rate is None else dropout_rate
        self.activation = PLAIN_ACTIVATIONS[activation]
        self.initial_conv = Conv2D(variant.widths[0] // 4, 7, 2, with_bias=False, name='initial_conv')
        self.stages = make_stages(
            lay_out(variant.widths, variant.depths, stochastic_depth_rate=stochastic_depth_rate),
            lambda place: ResBlock(
                place.channels,
                stride=place.stride,
                is_transition=place.is_transition,
                group_width=variant.group_width,
                activation=self.activation,
            ),
        )
        self.final_bn = batch_norm('final_bn')
        self.linear = hk.Linear(num_classes, w_init=jnp.zeros, name='linear')

    def __call__(self, images: jax.Array, is_training: bool) -> dict[str, jax.Array]:
        """Classifies images; inside `hk.transform_with_state`.

        Args:
          images: [N, H, W, 3], normalised.
          is_training: normalise by the batch, and drop out.

        Returns:
          'logits' [N, num_classes] and 'pool' [N, C], the features that the classifier sees, before dropout;
          both in the dtype of images and parameters.
        """
        out = self.initial_conv(images)
        out = hk.max_pool(out, (1, 3, 3, 1), (1, 2, 2, 1), padding='SAME')
        out = run_stages(self.stages, out, is_training, remat=False)
        out = self.activation(normalise(self.final_bn, out, is_training))
        pool = jnp.mean(out, axis=(1, 2))
        return {'logits': self.linear(dropout(pool, self.dropout_rate, is_training)), 'pool': pool}
