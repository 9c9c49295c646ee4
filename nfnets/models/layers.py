"""The layers that NFNets have and ordinary networks don't, and what their baselines have in their place.

References:
  [C] Brock et al. 2021, arXiv 2101.08692 (scaled weight standardisation, section 4).
  [P] Brock et al. 2021, arXiv 2102.06171 (the NFNet block, section 4.2 and appendix C).
  [H] He et al. 2015, arXiv 1502.01852 (initialisation, section 2.2).
"""

import haiku as hk
import jax
import jax.numpy as jnp

from nfnets.models.convolution import convolve

_FLOOR = 1e-4  # Of fan-in times variance.


@jax.custom_vjp
def standardize_weight(w: jax.Array, gain: jax.Array) -> jax.Array:
    """Scaled weight standardisation ([C] equation 5; [P] equation 1).

    Over the fan-in of each output channel: (w - mean) * gain / sqrt(max(N * variance, 1e-4)), so that
    an input of unit variance leaves the convolution with variance gain^2.

    Args:
      w: [H, W, I, O] kernel.
      gain: [O].

    Returns:
      [H, W, I, O], in w's dtype.
    """
    return _standardize_forward(w, gain)[0]


def _standardize_forward(w: jax.Array, gain: jax.Array) -> tuple[jax.Array, tuple[jax.Array, ...]]:
    centred = w - _mean(w)
    scatter = _mean(jnp.square(centred)) * (w.size // w.shape[3])
    inverse = jax.lax.rsqrt(jnp.maximum(scatter, _FLOOR))
    return centred * (inverse * gain[None, None, None, :]), (w, gain, scatter)


def _standardize_backward(residuals: tuple[jax.Array, ...], grad: jax.Array) -> tuple[jax.Array, jax.Array]:
    # By hand, because of two sums over the kernel instead of the five that differentiation leaves, some in
    # a form that XLA's CPU backend is 27 times slower at. Only w is kept from the forward pass.
    w, gain, scatter = residuals
    centred = w - _mean(w)
    inverse = jax.lax.rsqrt(jnp.maximum(scatter, _FLOOR))
    scale = inverse * gain[None, None, None, :]
    dot = jnp.sum(grad * centred, axis=(0, 1, 2), keepdims=True)
    along = jnp.where(scatter > _FLOOR, dot * scale * inverse**2, 0)
    return (grad - _mean(grad)) * scale - centred * along, (dot * inverse)[0, 0, 0]


def _mean(x: jax.Array) -> jax.Array:
    return jnp.mean(x, axis=(0, 1, 2), keepdims=True)


standardize_weight.defvjp(_standardize_forward, _standardize_backward)


class WSConv2D(hk.Module):
    """Convolution with scaled weight standardisation, a learnt gain and a bias per output channel."""

    def __init__(
        self,
        output_channels: int,
        kernel_size: int,
        stride: int = 1,
        groups: int = 1,
        name: str | None = None,
    ):
        """Args: output_channels must be a multiple of groups; padding is always SAME."""
        super().__init__(name=name)
        self.output_channels = output_channels
        self.kernel_size = kernel_size
        self.stride = stride
        self.groups = groups

    def __call__(self, x: jax.Array) -> jax.Array:
        """[N, H, W, I] -> [N, ceil(H / stride), ceil(W / stride), output_channels]."""
        shape = (self.kernel_size,) * 2 + (x.shape[-1] // self.groups, self.output_channels)
        w_init = hk.initializers.VarianceScaling(1.0, 'fan_in', 'normal')
        w = hk.get_parameter('w', shape, x.dtype, init=w_init)
        gain = hk.get_parameter('gain', (self.output_channels,), x.dtype, init=jnp.ones)
        bias = hk.get_parameter('bias', (self.output_channels,), x.dtype, init=jnp.zeros)
        out = convolve(x, standardize_weight(w, gain), stride=self.stride, groups=self.groups)
        return out + bias[None, None, None, :]


class Conv2D(hk.Module):
    """An ordinary convolution with SAME padding, by default initialised for a ReLU before it ([H])."""

    def __init__(
        self,
        output_channels: int,
        kernel_size: int,
        stride: int = 1,
        groups: int = 1,
        *,
        with_bias: bool = True,
        w_init: hk.initializers.Initializer | None = None,
        name: str | None = None,
    ):
        """Args: output_channels must be a multiple of groups."""
        super().__init__(name=name)
        self.output_channels = output_channels
        self.kernel_size = kernel_size
        self.stride = stride
        self.groups = groups
        self.with_bias = with_bias
        self.w_init = w_init or hk.initializers.VarianceScaling(2.0, 'fan_in', 'normal')

    def __call__(self, x: jax.Array) -> jax.Array:
        """[N, H, W, I] -> [N, ceil(H / stride), ceil(W / stride), output_channels]."""
        shape = (self.kernel_size,) * 2 + (x.shape[-1] // self.groups, self.output_channels)
        w = hk.get_parameter('w', shape, x.dtype, init=self.w_init)
        out = convolve(x, w, stride=self.stride, groups=self.groups)
        if self.with_bias:
            bias = hk.get_parameter('b', (self.output_channels,), x.dtype, init=jnp.zeros)
            out += bias[None, None, None, :]
        return out


def grouped(width: int, group_width: int | None) -> tuple[int, int]:
    """Width and groups of a convolution, the width rounded down to whole groups; None: one group."""
    if group_width is None:
        return width, 1
    return width // group_width * group_width, width // group_width


class SqueezeExcite(hk.Module):
    """The attention factor of each channel (Hu et al. 2018, arXiv 1709.01507), between 0 and 1.

    The hidden activation is the plain ReLU of the released code, not the GELU that [P] names: the
    released weights were trained with it.
    """

    def __init__(self, channels: int, ratio: float = 0.5, name: str | None = None):
        super().__init__(name=name)
        self.squeeze = hk.Linear(max(1, int(channels * ratio)))
        self.excite = hk.Linear(channels)

    def __call__(self, x: jax.Array) -> jax.Array:
        """[N, H, W, C] -> [N, 1, 1, C]."""
        hidden = jax.nn.relu(self.squeeze(jnp.mean(x, axis=(1, 2))))
        return jax.nn.sigmoid(self.excite(hidden))[:, None, None, :]


def stochastic_depth(x: jax.Array, drop_rate: float | jax.Array) -> jax.Array:
    """Drops the whole branch of an example at random (Huang et al. 2016, arXiv 1603.09382), in training.

    As in the released code, what is kept is not divided by the keep probability.

    Args:
      x: [N, H, W, C].
      drop_rate: probability of dropping an example, a scalar.

    Returns:
      The same, examples dropped set to zero.
    """
    kept = jax.random.bernoulli(hk.next_rng_key(), 1.0 - drop_rate, (x.shape[0], 1, 1, 1))
    return x * kept.astype(x.dtype)


def average_pool(x: jax.Array, stride: int) -> jax.Array:
    """Means over windows of 2 x 2 px where there is a stride: the shortcut of a block that has one."""
    if stride == 1:
        return x
    return hk.avg_pool(x, (1, 2, 2, 1), (1, stride, stride, 1), padding='SAME')


def dropout(pool: jax.Array, rate: float, is_training: bool) -> jax.Array:
    """Dropout of pooled features [N, C] in training."""
    if is_training and rate > 0.0:
        return hk.dropout(hk.next_rng_key(), rate, pool)
    return pool
