"""The layers that NFNets have and ordinary networks don't, and what their baselines have in their place.

References:
  [C] Brock et al. 2021, arXiv 2101.08692 (scaled weight standardization, section 4).
  [P] Brock et al. 2021, arXiv 2102.06171 (the NFNet block, section 4.2 and appendix C).
  [H] He et al. 2015, arXiv 1502.01852 (initialization, section 2.2).
"""

import math
from typing import Any

import haiku as hk
import jax
import jax.numpy as jnp

from nfnets.errors import InputError
from nfnets.models.convolution import convolve, pads

Outputs = dict[str, Any]  # Of a network, see `pooled_outputs`.

FLOOR = 1e-4  # Of fan-in times variance.


@jax.jit(inline=True)  # Traced once for all kernels of a shape.
def standardize_weight(w: jax.Array, gain: jax.Array) -> jax.Array:
    """Scaled weight standardization ([C] equation 5; [P] equation 1).

    Over the fan-in of each output channel: (w - mean) * gain / sqrt(max(N * variance, 1e-4)), so that
    an input of unit variance leaves the convolution with variance gain^2.

    Args:
      w: [H, W, I, O] kernel.
      gain: [O].

    Returns:
      [H, W, I, O], in w's dtype.
    """
    with jax.named_scope('standardize'):
        # Both sums in one pass, in float32 or more; means of kernels are small beside their deviation.
        x = w.astype(jnp.promote_types(w.dtype, jnp.float32))
        total = jnp.sum(x, axis=(0, 1, 2), keepdims=True)
        mean = total / (w.size // w.shape[3])
        scatter = jnp.sum(jnp.square(x), axis=(0, 1, 2), keepdims=True) - total * mean
        scale = jax.lax.rsqrt(jnp.maximum(scatter, FLOOR)) * gain[None, None, None, :]
        return (w - mean.astype(w.dtype)) * scale.astype(w.dtype)


class WSConv2D(hk.Module):
    """Convolution with scaled weight standardization, a learned gain and a bias per output channel."""

    def __init__(
        self,
        output_channels: int,
        kernel_size: int,
        stride: int = 1,
        groups: int = 1,
        *,
        padding: str = 'same',
        gain_init: float = 1.0,
        name: str | None = None,
    ):
        """Args: output_channels must be a multiple of groups; padding as of `convolve`; the initial gain."""
        super().__init__(name=name)
        self.output_channels = output_channels
        self.kernel_size = kernel_size
        self.stride = stride
        self.groups = groups
        self.padding = padding
        self.gain_init = gain_init

    def __call__(self, x: jax.Array) -> jax.Array:
        """[N, H, W, I] -> [N, ceil(H / stride), ceil(W / stride), output_channels]."""
        w, bias = self.kernel_and_bias(x.shape[-1], x.dtype)
        out = convolve(x, w, stride=self.stride, groups=self.groups, padding=self.padding)
        return out + bias[None, None, None, :]

    def kernel_and_bias(self, input_channels: int, dtype: Any) -> tuple[jax.Array, jax.Array]:
        """The standardized kernel [H, W, I / groups, O] and the bias [O] for inputs of a dtype."""
        shape = (self.kernel_size,) * 2 + (input_channels // self.groups, self.output_channels)
        w_init = hk.initializers.VarianceScaling(1.0, 'fan_in', 'normal')
        w = hk.get_parameter('w', shape, dtype, init=w_init)
        gain_init = hk.initializers.Constant(self.gain_init)
        gain = hk.get_parameter('gain', (self.output_channels,), dtype, init=gain_init)
        bias = hk.get_parameter('bias', (self.output_channels,), dtype, init=jnp.zeros)
        return standardize_weight(w, gain), bias


class Conv2D(hk.Module):
    """An ordinary convolution, by default initialized for a ReLU before it ([H])."""

    def __init__(
        self,
        output_channels: int,
        kernel_size: int,
        stride: int = 1,
        groups: int = 1,
        *,
        with_bias: bool = True,
        padding: str = 'same',
        gain_init: float = 1.0,
        w_init: hk.initializers.Initializer | None = None,
        name: str | None = None,
    ):
        """Args: as of `WSConv2D`; the initial gain is a factor of the default initial kernel."""
        super().__init__(name=name)
        self.output_channels = output_channels
        self.kernel_size = kernel_size
        self.stride = stride
        self.groups = groups
        self.with_bias = with_bias
        self.padding = padding
        self.w_init = w_init or hk.initializers.VarianceScaling(2.0 * gain_init**2, 'fan_in', 'normal')

    def __call__(self, x: jax.Array) -> jax.Array:
        """[N, H, W, I] -> [N, ceil(H / stride), ceil(W / stride), output_channels]."""
        shape = (self.kernel_size,) * 2 + (x.shape[-1] // self.groups, self.output_channels)
        w = hk.get_parameter('w', shape, x.dtype, init=self.w_init)
        out = convolve(x, w, stride=self.stride, groups=self.groups, padding=self.padding)
        if self.with_bias:
            bias = hk.get_parameter('b', (self.output_channels,), x.dtype, init=jnp.zeros)
            out += bias[None, None, None, :]
        return out


def grouped(width: int, group_width: int | None) -> tuple[int, int]:
    """Width and groups of a convolution, the width rounded down to whole groups; None: one group."""
    if group_width is None:
        return width, 1
    return width // group_width * group_width, width // group_width


def rounded(width: float, multiple: int | None) -> int:
    """Whole channels: the nearest multiple, halves up; None: rounded down."""
    return int(width) if multiple is None else max(1, int(width / multiple + 0.5)) * multiple


class SqueezeExcite(hk.Module):
    """The attention factor of each channel (Hu et al. 2018, arXiv 1709.01507), between 0 and 1.

    The hidden activation is the plain ReLU of the released code, not the GELU that [P] names: the
    released weights were trained with it.
    """

    def __init__(
        self, channels: int, ratio: float = 0.5, multiple: int | None = None, name: str | None = None
    ):
        """Args: channels of the input, the hidden width as a fraction of them, and as of `rounded`."""
        super().__init__(name=name)
        self.squeeze = hk.Linear(max(1, rounded(channels * ratio, multiple)))
        self.excite = hk.Linear(channels)

    def __call__(self, x: jax.Array) -> jax.Array:
        """[N, H, W, C] -> [N, 1, 1, C]."""
        hidden = jax.nn.relu(self.squeeze(jnp.mean(x, axis=(1, 2))))
        return jax.nn.sigmoid(self.excite(hidden))[:, None, None, :]


class EfficientChannelAttention(hk.Module):
    """The attention factor of each channel from its neighbors' means (Wang et al. 2020, arXiv 1910.03151)."""

    def __init__(self, channels: int, name: str | None = None):
        """Args: channels of the input, which the kernel's size follows from (its equation 12)."""
        super().__init__(name=name)
        self.kernel_size = max(3, int((math.log2(channels) + 1) / 2) // 2 * 2 + 1)

    def __call__(self, x: jax.Array) -> jax.Array:
        """[N, H, W, C] -> [N, 1, 1, C]."""
        size = self.kernel_size
        w_init = hk.initializers.RandomUniform(-(size**-0.5), size**-0.5)
        w = hk.get_parameter('w', (size,), x.dtype, init=w_init)
        return jax.nn.sigmoid(neighbor_sums(jnp.mean(x, axis=(1, 2)), w))[:, None, None, :]


@jax.jit  # A name in traces, which `nfnets/folding` knows.
def neighbor_sums(x: jax.Array, w: jax.Array) -> jax.Array:
    """Sums of each channel of [N, C] and its neighbors, by weights [k], k odd, the middle one its own."""
    size, channels = w.shape[0], x.shape[-1]
    padded = jnp.pad(x, ((0, 0), (size // 2, size // 2)))
    return jnp.stack([padded[:, i : i + channels] for i in range(size)], axis=-1) @ w


def attention_layer(
    kind: str, channels: int, ratio: float, multiple: int | None = None
) -> 'SqueezeExcite | EfficientChannelAttention':
    """'squeeze_excite', whose further arguments these are, or 'eca'.

    Raises:
      InputError: it is neither.
    """
    if kind == 'squeeze_excite':
        return SqueezeExcite(channels, ratio, multiple, name=kind)
    if kind == 'eca':
        return EfficientChannelAttention(channels, name=kind)
    raise InputError(f'attention={kind!r} is not allowed: it must be one of squeeze_excite, eca')


def stochastic_depth(x: jax.Array, drop_rate: float | jax.Array | None, is_training: bool) -> jax.Array:
    """Drops the whole branch of an example at random (Huang et al. 2016, arXiv 1603.09382), in training.

    As in the released code, what is kept is not divided by the keep probability.

    Args:
      x: [N, H, W, C].
      drop_rate: probability of dropping an example, a scalar; None for never.
      is_training: whether to drop any.

    Returns:
      The same, examples dropped set to zero.
    """
    if not is_training or drop_rate is None:
        return x
    kept = jax.random.bernoulli(hk.next_rng_key(), 1.0 - drop_rate, (x.shape[0], 1, 1, 1))
    return x * kept.astype(x.dtype)


def average_pool(x: jax.Array, stride: int) -> jax.Array:
    """Means over windows of 2 x 2 px where there is a stride: the shortcut of a block that has one."""
    if stride == 1:
        return x
    return hk.avg_pool(x, (1, 2, 2, 1), (1, stride, stride, 1), padding='SAME')


def stem_pool(x: jax.Array, padding: str = 'same') -> jax.Array:
    """Maxima over windows of 3 x 3 px with stride 2, after the first convolution of a ResNet."""
    around = ((0, 0), *pads(x.shape[1:3], (3, 3), 2, padding), (0, 0))
    return jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (1, 3, 3, 1), (1, 2, 2, 1), around)


def scalar(name: str, x: jax.Array, init: hk.initializers.Initializer = jnp.zeros) -> jax.Array:
    """A learned scalar of the module around it, in x's dtype; it starts at 0."""
    return hk.get_parameter(name, (), x.dtype, init=init)


def scaled_branch(x: jax.Array, alpha: float, skip_gain: bool) -> jax.Array:
    """A residual branch as it is added to its shortcut.

    The learned gain starts at zero: the network begins as its shortcuts (SkipInit, arXiv 2002.10444). Without
    it the block's last convolution must start so, see `initial_gain`.
    """
    return x * scalar('skip_gain', x) * alpha if skip_gain else x * alpha


def initial_gain(skip_gain: bool) -> float:
    """Initial gain of a branch's last convolution: 1 with a skip gain, which starts at 0 itself, else 0."""
    return 1.0 if skip_gain else 0.0


def pooled_outputs(
    linear: hk.Linear,
    x: jax.Array,
    grids: tuple[jax.Array, ...],
    dropout_rate: float,
    is_training: bool,
    bias: str | None = None,
) -> Outputs:
    """The head of a network.

    Args:
      linear: the classifier.
      x: [N, H, W, C], after the last activation.
      grids: of the stages, from `run_stages`.
      dropout_rate: of the pooled features in training.
      is_training: whether to drop out, which needs a random key.
      bias: name of a learned scalar to add to the features, if there is one.

    Returns:
      'logits' [N, num_classes], 'pool' [N, C], the features that the classifier sees, before dropout, and
      'grids', those given; all in the dtype of images and parameters. XLA computes and keeps what is used.
    """
    pool = jnp.mean(x, axis=(1, 2))
    features = pool
    if is_training and dropout_rate > 0.0:
        features = hk.dropout(hk.next_rng_key(), dropout_rate, pool)
    if bias is not None:
        features = features + scalar(bias, pool)
    return {'logits': linear(features), 'pool': pool, 'grids': grids}
