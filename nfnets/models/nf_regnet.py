"""NF-RegNet: normaliser-free RegNets (Brock et al. 2021, arXiv 2101.08692).

Names and shapes of the parameters, and the outputs, are those of the code released with arXiv 2102.06171: a
block's inner width follows from its input, squeeze-excite stands before the last convolution, and the first
block does not widen.
"""

import haiku as hk
import jax
import jax.numpy as jnp

from nfnets.models.activations import ACTIVATIONS, Activation
from nfnets.models.layers import SqueezeExcite, WSConv2D, average_pool, dropout, grouped, stochastic_depth
from nfnets.models.stages import ALPHA, BlockSetting, lay_out, make_stages, run_stages
from nfnets.variants import REGNETS, Variant, get_variant

_EXPANSION = 2.25  # Width of the 3x3 convolution to the block's input.
_HEAD_RATIO = (1280, 440)  # Channels of the last convolution to those of the last stage.


class NFRegBlock(hk.Module):
    """Pre-activation block: 1x1 that widens, grouped 3x3, squeeze-excite, 1x1."""

    def __init__(
        self,
        channels: int,
        *,
        inner: int,
        stride: int,
        is_transition: bool,
        group_width: int | None,
        activation: Activation,
        name: str | None = None,
    ):
        """Creates the block.

        Args:
          channels: of the output.
          inner: width of the 3x3 convolution.
          stride: of the 3x3 convolution; more than 1 only in a transition.
          is_transition: first block of a stage, whose shortcut is a convolution.
          group_width: of the 3x3 convolution, see `grouped`.
          activation: one that keeps the variance.
          name: of the module.
        """
        super().__init__(name=name)
        self.stride = stride
        self.is_transition = is_transition
        self.activation = activation
        width, groups = grouped(inner, group_width)
        self.conv0 = WSConv2D(width, 1, name='conv0')
        self.conv1 = WSConv2D(width, 3, stride, groups, name='conv1')
        self.conv2 = WSConv2D(channels, 1, name='conv2')
        if is_transition:
            self.conv_shortcut = WSConv2D(channels, 1, name='conv_shortcut')
        self.squeeze_excite = SqueezeExcite(width, name='squeeze_excite')

    def __call__(self, x: jax.Array, setting: BlockSetting, is_training: bool) -> jax.Array:
        """[N, H, W, I] -> [N, ceil(H / stride), ceil(W / stride), channels]."""
        out = self.activation(x) * jnp.asarray(1 / setting.beta, x.dtype)
        shortcut = self.conv_shortcut(average_pool(out, self.stride)) if self.is_transition else x
        out = self.branch(out)
        if is_training and setting.drop_rate is not None:
            out = stochastic_depth(out, setting.drop_rate)
        skip_gain = hk.get_parameter('skip_gain', (), out.dtype, init=jnp.zeros)
        return out * skip_gain * ALPHA + shortcut

    def branch(self, out: jax.Array) -> jax.Array:
        """The residual branch, before it is scaled."""
        out = self.conv1(self.activation(self.conv0(out)))
        out = out * 2 * self.squeeze_excite(out)  # 2: the sigmoid's mean is a half at the start.
        return self.conv2(self.activation(out))


class NFRegNet(hk.Module):
    """A normaliser-free RegNet, or one of its blocks with other widths and depths."""

    def __init__(
        self,
        num_classes: int,
        variant: str | Variant = 'B0',
        *,
        dropout_rate: float | None = None,
        stochastic_depth_rate: float = 0.1,
        activation: str = 'silu',
        remat: bool = False,
        name: str = 'NF_RegNet',
    ):
        """Creates the network.

        Args:
          num_classes: number of logits.
          variant: 'B0' .. 'B8', or a `Variant` with widths, depths and group width of one's own.
          dropout_rate: of the pooled features in training; the variant's if None.
          stochastic_depth_rate: drop rate that would follow the last block; it grows linearly with
            depth, from 0 at the first.
          activation: 'silu' (the paper's), 'gelu' or 'relu'.
          remat: compute each block again in the backward pass instead of keeping what is in it.
          name: first part of every parameter's name.

        Raises:
          InputError: the variant does not exist.
        """
        super().__init__(name=name)
        variant = get_variant(variant, REGNETS) if isinstance(variant, str) else variant
        self.dropout_rate = variant.dropout_rate if dropout_rate is None else dropout_rate
        self.activation = ACTIVATIONS[activation]
        self.remat = remat
        channels = variant.widths[0]
        self.initial_conv = WSConv2D(channels, 3, 2, name='initial_conv')
        places = lay_out(
            variant.widths, variant.depths, first_stride=2, stochastic_depth_rate=stochastic_depth_rate
        )
        inputs = [channels, *(place.channels for stage in places for place in stage)]
        inner = iter([channels, *(int(width * _EXPANSION) for width in inputs[1:])])
        self.stages = make_stages(
            places,
            lambda place: NFRegBlock(
                place.channels,
                inner=next(inner),
                stride=place.stride,
                is_transition=place.is_transition,
                group_width=variant.group_width,
                activation=self.activation,
                name='nf_block',
            ),
        )
        head, last = _HEAD_RATIO
        self.final_conv = WSConv2D(head * variant.widths[-1] // last, 1, name='final_conv')
        self.linear = hk.Linear(num_classes, w_init=jnp.zeros, name='linear')

    def __call__(self, images: jax.Array, is_training: bool) -> dict[str, jax.Array]:
        """Classifies images.

        Args:
          images: [N, H, W, 3], normalised.
          is_training: with dropout and stochastic depth, which need a random key.

        Returns:
          'logits' [N, num_classes] and 'pool' [N, C], the features that the classifier sees, before dropout;
          both in the dtype of images and parameters.
        """
        out = self.initial_conv(images)
        out = run_stages(self.stages, out, is_training, remat=self.remat)
        pool = jnp.mean(self.activation(self.final_conv(out)), axis=(1, 2))
        return {'logits': self.linear(dropout(pool, self.dropout_rate, is_training)), 'pool': pool}
