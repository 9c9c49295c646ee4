"""NFNet (Brock et al. 2021, arXiv 2102.06171, section 4.2, figure 3 and appendix C).

Names and shapes of the parameters are those of the released weights. Checked against the numbers that
the released code gives (tests/golden). Where paper and released code differ, the released code is
followed: plain ReLU inside squeeze-excite, no division by the keep probability in stochastic depth.
"""

from typing import Any

import haiku as hk
import jax
import jax.numpy as jnp

from nfnets.models.activations import ACTIVATIONS, Activation
from nfnets.models.layers import SqueezeExcite, WSConv2D, average_pool, dropout, grouped, stochastic_depth
from nfnets.models.stages import ALPHA, BlockSetting, lay_out, make_stages, run_stages
from nfnets.variants import Variant, get_variant

BOTTLENECK_RATIO = 0.5  # Width of the 3x3 convolutions to the block's.
_STEM = ((16, 2), (32, 1), (64, 1))  # Channels and stride of all but the last convolution.


def lay_out_stem(width: int) -> list[tuple[int, int]]:
    """Channels and stride of the stem's convolutions, before a first stage of that width."""
    return [*_STEM, (width // 2, 2)]


class NFBlock(hk.Module):
    """Pre-activation bottleneck block with one or two grouped 3x3 convolutions and squeeze-excite."""

    def __init__(
        self,
        channels: int,
        *,
        stride: int,
        is_transition: bool,
        group_width: int | None,
        second_conv: bool,
        activation: Activation,
        name: str | None = None,
    ):
        """Creates the block.

        Args:
          channels: of the output.
          stride: of the first 3x3 convolution; more than 1 only in a transition.
          is_transition: first block of a stage, whose shortcut is a convolution.
          group_width: channels of one group of the 3x3 convolutions, see `grouped`.
          second_conv: whether there are two 3x3 convolutions.
          activation: a variance-preserving one.
          name: of the module.
        """
        super().__init__(name=name)
        self.stride = stride
        self.is_transition = is_transition
        self.activation = activation
        width, groups = grouped(int(channels * BOTTLENECK_RATIO), group_width)
        self.conv0 = WSConv2D(width, 1, name='conv0')
        self.conv1 = WSConv2D(width, 3, stride, groups, name='conv1')
        self.conv1b = WSConv2D(width, 3, 1, groups, name='conv1b') if second_conv else None
        self.conv2 = WSConv2D(channels, 1, name='conv2')
        if is_transition:
            self.conv_shortcut = WSConv2D(channels, 1, name='conv_shortcut')
        self.squeeze_excite = SqueezeExcite(channels, name='squeeze_excite')

    def __call__(self, x: jax.Array, setting: BlockSetting, is_training: bool) -> jax.Array:
        """[N, H, W, I] -> [N, ceil(H / stride), ceil(W / stride), channels]."""
        out = self.activation(x) * jnp.asarray(1 / setting.beta, x.dtype)
        shortcut = self.conv_shortcut(average_pool(out, self.stride)) if self.is_transition else x
        out = self.branch(out)
        if is_training and setting.drop_rate is not None:
            out = stochastic_depth(out, setting.drop_rate)
        # Starts at zero: the network begins as its shortcuts (SkipInit, arXiv 2002.10444).
        skip_gain = hk.get_parameter('skip_gain', (), out.dtype, init=jnp.zeros)
        return out * skip_gain * ALPHA + shortcut

    def branch(self, out: jax.Array) -> jax.Array:
        """The residual branch, before it is scaled."""
        out = self.activation(self.conv0(out))
        out = self.activation(self.conv1(out))
        if self.conv1b is not None:
            out = self.activation(self.conv1b(out))
        out = self.conv2(out)
        return out * 2 * self.squeeze_excite(out)  # 2: the sigmoid's mean is a half at the start.


class NFNet(hk.Module):
    """A normaliser-free network of the F-family, or of its blocks with other widths and depths."""

    def __init__(
        self,
        num_classes: int,
        variant: str | Variant = 'F0',
        *,
        dropout_rate: float | None = None,
        stochastic_depth_rate: float = 0.25,
        activation: str = 'gelu',
        remat: bool = False,
        name: str = 'NFNet',
    ):
        """Creates the network.

        Args:
          num_classes: number of logits.
          variant: name of a member of the family ('F0' .. 'F7', 'F0+' .. 'F7+'), or a `Variant` with
            widths, depths and group width of one's own.
          dropout_rate: of the pooled features in training; the variant's if None.
          stochastic_depth_rate: drop rate that would follow the last block; it grows linearly with
            depth, from 0 at the first.
          activation: 'gelu' (the paper's), 'relu' or 'silu'.
          remat: compute each block again in the backward pass instead of keeping what is in it.
          name: first part of every parameter's name; the released weights have 'NFNet'.

        Raises:
          InputError: the variant does not exist.
        """
        super().__init__(name=name)
        variant = get_variant(variant) if isinstance(variant, str) else variant
        self.dropout_rate = variant.dropout_rate if dropout_rate is None else dropout_rate
        self.activation = ACTIVATIONS[activation]
        self.stem = [
            WSConv2D(channels, 3, stride, name=f'stem_conv{i}')
            for i, (channels, stride) in enumerate(lay_out_stem(variant.widths[0]))
        ]
        self.remat = remat
        self.stages = make_stages(
            lay_out(variant.widths, variant.depths, stochastic_depth_rate=stochastic_depth_rate),
            lambda place: NFBlock(
                place.channels,
                stride=place.stride,
                is_transition=place.is_transition,
                group_width=variant.group_width,
                second_conv=variant.second_conv,
                activation=self.activation,
                name='nf_block',
            ),
        )
        self.final_conv = WSConv2D(2 * variant.widths[-1], 1, name='final_conv')
        self.linear = hk.Linear(num_classes, w_init=hk.initializers.RandomNormal(stddev=0.01), name='linear')

    def __call__(self, images: jax.Array, is_training: bool) -> dict[str, jax.Array]:
        """Classifies images.

        Args:
          images: [N, H, W, 3], normalised.
          is_training: with dropout and stochastic depth, which need a random key.

        Returns:
          'logits' [N, num_classes] and 'pool' [N, C], the features that the classifier sees, before
          dropout; both in the dtype of images and parameters.
        """
        out = self.stem[0](images)
        for conv in self.stem[1:]:
            out = conv(self.activation(out))
        out = run_stages(self.stages, out, is_training, remat=self.remat)
        pool = jnp.mean(self.activation(self.final_conv(out)), axis=(1, 2))
        return {'logits': self.linear(dropout(pool, self.dropout_rate, is_training)), 'pool': pool}


def make_network(num_classes: int, variant: str | Variant = 'F0', **settings: Any) -> hk.Transformed:
    """An `NFNet` as a pair of functions: init, and apply(params, key, images [N, H, W, 3], is_training).

    Args:
      num_classes: as of `NFNet`, and so are the others.
      variant: name or `Variant`.
      **settings: rates and activation.
    """

    def forward(images: jax.Array, is_training: bool) -> dict[str, jax.Array]:
        return NFNet(num_classes, variant, **settings)(images, is_training)

    return hk.transform(forward)


def init_params(network: hk.Transformed, key: jax.Array) -> hk.Params:
    """Initial parameters; those of an NFNet do not depend on the size of the images."""
    return network.init(key, jnp.zeros((1, 32, 32, 3), jnp.float32), False)


def parameter_shapes(network: hk.Transformed) -> dict[str, dict[str, jax.ShapeDtypeStruct]]:
    """{module: {name: shape and dtype}} of a network; nothing is computed."""
    return jax.eval_shape(lambda key: init_params(network, key), jax.random.key(0))
