"""NF-ResNet: pre-activation ResNets without normalisation (Brock et al. 2021, arXiv 2101.08692, section 4).

Names and shapes of the parameters, and the outputs, are those of the code released with arXiv 2102.06171:
strided shortcuts are strided 1x1 convolutions without pooling, and squeeze-excite, last in a branch, is left
out unless asked for.
"""

import haiku as hk
import jax
import jax.numpy as jnp

from nfnets.models.activations import ACTIVATIONS, PLAIN_ACTIVATIONS, Activation
from nfnets.models.layers import Conv2D, SqueezeExcite, WSConv2D, dropout, grouped, stochastic_depth
from nfnets.models.stages import ALPHA, BlockSetting, lay_out, make_stages, run_stages
from nfnets.variants import RESNETS, Variant, get_variant

BOTTLENECK_RATIO = 0.25  # Width of the 3x3 convolution to the block's.
_SQUEEZE_RATIO = 0.25  # Hidden width of squeeze-excite to the block's.


class NFResBlock(hk.Module):
    """Pre-activation bottleneck block: 1x1, 3x3, 1x1."""

    def __init__(
        self,
        channels: int,
        *,
        stride: int,
        is_transition: bool,
        group_width: int | None,
        activation: Activation,
        alpha: float,
        squeeze_excite: bool,
        conv: type[WSConv2D] | type[Conv2D],
        name: str | None = None,
    ):
        """Creates the block.

        Args:
          channels: of the output.
          stride: of the 3x3 convolution and the shortcut; more than 1 only in a transition.
          is_transition: first block of a stage, whose shortcut is a convolution.
          group_width: of the 3x3 convolution, see `grouped`.
          activation: one that keeps the variance, together with the convolution.
          alpha: scale of the branch.
          squeeze_excite: whether the branch ends with it.
          conv: of all convolutions.
          name: of the module.
        """
        super().__init__(name=name)
        self.is_transition = is_transition
        self.activation = activation
        self.alpha = alpha
        width, groups = grouped(int(channels * BOTTLENECK_RATIO), group_width)
        self.conv0 = conv(width, 1, name='conv0')
        self.conv1 = conv(width, 3, stride, groups, name='conv1')
        self.conv2 = conv(channels, 1, name='conv2')
        if is_transition:
            self.conv_shortcut = conv(channels, 1, stride, name='conv_shortcut')
        self.squeeze_excite = (
            SqueezeExcite(channels, _SQUEEZE_RATIO, name='squeeze_excite') if squeeze_excite else None
        )

    def __call__(self, x: jax.Array, setting: BlockSetting, is_training: bool) -> jax.Array:
        """[N, H, W, I] -> [N, ceil(H / stride), ceil(W / stride), channels]."""
        out = self.activation(x) * jnp.asarray(1 / setting.beta, x.dtype)
        shortcut = self.conv_shortcut(out) if self.is_transition else x
        out = self.branch(out)
        if is_training and setting.drop_rate is not None:
            out = stochastic_depth(out, setting.drop_rate)
        # Starts at zero: the network begins as its shortcuts (SkipInit, arXiv 2002.10444).
        skip_gain = hk.get_parameter('skip_gain', (), out.dtype, init=jnp.zeros)
        return out * skip_gain * self.alpha + shortcut

    def branch(self, out: jax.Array) -> jax.Array:
        """The residual branch, before it is scaled."""
        out = self.activation(self.conv0(out))
        out = self.conv2(self.activation(self.conv1(out)))
        return out if self.squeeze_excite is None else out * 2 * self.squeeze_excite(out)


class NFResNet(hk.Module):
    """A normaliser-free ResNet, or one of its blocks with other widths and depths."""

    def __init__(
        self,
        num_classes: int,
        variant: str | Variant = 'ResNet50',
        *,
        dropout_rate: float | None = None,
        stochastic_depth_rate: float = 0.1,
        activation: str = 'relu',
        alpha: float = ALPHA,
        squeeze_excite: bool = False,
        weight_standardization: bool = True,
        remat: bool = False,
        name: str = 'NF_ResNet',
    ):
        """Creates the network.

        Args:
          num_classes: number of logits.
          variant: 'ResNet50', 'ResNet101', 'ResNet152', 'ResNet200', 'ResNet288' or 'ResNet600', or a
            `Variant` with widths and depths of one's own.
          dropout_rate: of the pooled features in training; the variant's if None.
          stochastic_depth_rate: drop rate that would follow the last block; it grows linearly with
            depth, from 0 at the first.
          activation: 'relu' (the released code's), 'gelu' or 'silu'.
          alpha: scale of each residual branch.
          squeeze_excite: whether each branch ends with it.
          weight_standardization: without it, convolutions are ordinary ones initialised after He et al. 2015,
            and activations are not scaled: what the paper shows to go wrong.
          remat: compute each block again in the backward pass instead of keeping what is in it.
          name: first part of every parameter's name.

        Raises:
          InputError: the variant does not exist.
        """
        super().__init__(name=name)
        variant = get_variant(variant, RESNETS) if isinstance(variant, str) else variant
        self.dropout_rate = variant.dropout_rate if dropout_rate is None else dropout_rate
        self.activation = (ACTIVATIONS if weight_standardization else PLAIN_ACTIVATIONS)[activation]
        self.remat = remat
        conv = WSConv2D if weight_standardization else Conv2D
        self.initial_conv = conv(variant.widths[0] // 4, 7, 2, name='initial_conv')
        self.stages = make_stages(
            lay_out(variant.widths, variant.depths, stochastic_depth_rate=stochastic_depth_rate, alpha=alpha),
            lambda place: NFResBlock(
                place.channels,
                stride=place.stride,
                is_transition=place.is_transition,
                group_width=variant.group_width,
                activation=self.activation,
                alpha=alpha,
                squeeze_excite=squeeze_excite,
                conv=conv,
            ),
        )
        self.linear = hk.Linear(num_classes, w_init=hk.initializers.RandomNormal(stddev=0.01), name='linear')

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
        out = hk.max_pool(out, (1, 3, 3, 1), (1, 2, 2, 1), padding='SAME')
        out = run_stages(self.stages, out, is_training, remat=self.remat)
        pool = jnp.mean(self.activation(out), axis=(1, 2))
        return {'logits': self.linear(dropout(pool, self.dropout_rate, is_training)), 'pool': pool}
