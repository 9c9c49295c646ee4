"""The convolutions before the first stage, in the form that each backend runs fastest.

With 16 to 64 channels they leave most of a TPU's 128 lanes empty. There blocks of pixels stand as channels:
blocks of 2 x 2 pixels, and of 4 x 4 in the images. The kernels, standardized already, are laid out over
blocks with zeros between; the sums are the same. MLPerf's ResNet-50 for TPUs does so for its first one.
"""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from nfnets.models.activations import Activation
from nfnets.models.convolution import MANY, Pads, convolve, pads

KernelAndBias = tuple[jax.Array, jax.Array]

_BLOCK = 4  # Px of an image: two convolutions with stride 2 make one place of it.


def run_stem(
    images: jax.Array,
    kernels: Sequence[KernelAndBias],
    strides: Sequence[int],
    activation: Activation,
    padding: str = 'same',
) -> jax.Array:
    """Runs convolutions, and an activation between each and the next.

    Args:
      images: [N, H, W, 3].
      kernels: of each the kernel [3, 3, I, O] and the bias [O].
      strides: of each in both directions: 2 of the first and the last, 1 of those between.
      activation: elementwise.
      padding: of the convolutions, as of `convolve`.

    Returns:
      [N, H / 4, W / 4, C], rounded up.
    """
    plain, blocked = (
        functools.partial(run, strides=strides, activation=activation, padding=padding)
        for run in (_run, _run_on_blocks)
    )
    count, height, width, _ = images.shape
    if count >= MANY or height % _BLOCK or width % _BLOCK:
        return plain(images, kernels)
    return jax.lax.platform_dependent(images, kernels, tpu=blocked, default=plain)


def _run(
    x: jax.Array,
    kernels: Sequence[KernelAndBias],
    strides: Sequence[int],
    activation: Activation,
    padding: str,
) -> jax.Array:
    for k, ((kernel, bias), stride) in enumerate(zip(kernels, strides, strict=True)):
        x = activation(x) if k else x
        x = convolve(x, kernel, stride=stride, padding=padding) + bias[None, None, None]
    return x


def _run_on_blocks(
    images: jax.Array,
    kernels: Sequence[KernelAndBias],
    strides: Sequence[int],
    activation: Activation,
    padding: str,
) -> jax.Array:
    x, block = to_blocks(images, _BLOCK), _BLOCK
    for k, ((kernel, bias), stride) in enumerate(zip(kernels, strides, strict=True)):
        x = activation(x) if k else x
        laid_out, in_blocks = on_blocks(kernel, stride, block, padding)
        x = convolve(x, laid_out, padding=in_blocks)
        block //= stride
        x = x + jnp.tile(bias, block**2)[None, None, None]
    return x


def to_blocks(x: jax.Array, block: int) -> jax.Array:
    """[N, H, W, C] -> [N, H / block, W / block, block * block * C], pixels by row within a block."""
    count, height, width, channels = x.shape
    x = x.reshape(count, height // block, block, width // block, block, channels)
    return x.transpose(0, 1, 3, 2, 4, 5).reshape(count, height // block, width // block, -1)


def on_blocks(kernel: jax.Array, stride: int, block: int, padding: str = 'same') -> tuple[jax.Array, Pads]:
    """The kernel that does on blocks of the input, with stride 1, what a kernel does on pixels.

    Args:
      kernel: [size, size, I, O], for a height and width that are multiples of the block.
      stride: of the kernel on pixels, a divisor of the block.
      block: px of the input in each direction that stand as channels; of the output block / stride.
      padding: on pixels, as of `convolve`.

    Returns:
      [s, s, block^2 * I, (block / stride)^2 * O], and the padding that it wants, in blocks.
    """
    size, _, inputs, outputs = kernel.shape
    place, first = _placement(size, stride, block, padding)
    place = place.astype(kernel.dtype)
    # Each element of the result is one of the kernel's, or 0.
    laid_out = jnp.einsum('iaBs,jcDt,ijxy->BDstxacy', place, place, kernel)
    spread = place.shape[2]
    laid_out = laid_out.reshape(spread, spread, block**2 * inputs, (block // stride) ** 2 * outputs)
    return laid_out, ((-first, spread - 1 + first),) * 2


@functools.cache
def _placement(size: int, stride: int, block: int, padding: str) -> tuple[np.ndarray, int]:
    """Along one direction: 1 at [i, a, B, s] where output a of a block meets by i the pixel s of block B.

    With it the number of the first block that the array has, counted from the output's own.
    """
    (before, _), _ = pads((block, block), (size, size), stride, padding)
    offsets = np.arange(0, block, stride)[None, :] + np.arange(size)[:, None] - before
    blocks, pixels = offsets // block, offsets % block
    place = np.zeros((*offsets.shape, blocks.max() - blocks.min() + 1, block), np.float32)
    index = np.indices(offsets.shape)
    place[index[0], index[1], blocks - blocks.min(), pixels] = 1
    return place, int(blocks.min())
