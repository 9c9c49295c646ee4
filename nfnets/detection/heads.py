"""Heads on the pyramid: objectness, boxes and masks.

References:
  [R] Ren et al. 2015, arXiv 1506.01497 (section 3.1, initialization 3.1.3).
  [L] Lin et al. 2017, arXiv 1612.03144 (section 4).
  [H] He et al. 2017, arXiv 1703.06870 (section 3, figure 4).
"""

import haiku as hk
import jax

from nfnets.detection.anchors import PER_PLACE
from nfnets.models.layers import Conv2D

BOX_BINS, MASK_BINS = 7, 14  # Of the regions that are pooled for each head, a side.
MASK_SIDE = 2 * MASK_BINS  # Of the masks.
_MASK_CONVS = 4


def _normal(spread: float) -> hk.initializers.Initializer:
    return hk.initializers.RandomNormal(stddev=spread)


class ProposalHead(hk.Module):
    """Objectness and shifts of the anchors of each place ([R] section 3.1); the same for all levels."""

    def __init__(self, channels: int, name: str | None = None):
        """Args: channels of the pyramid."""
        super().__init__(name=name)
        self.hidden = Conv2D(channels, 3, w_init=_normal(0.01), name='hidden')
        self.objectness = Conv2D(PER_PLACE, 1, w_init=_normal(0.01), name='objectness')
        self.shifts = Conv2D(4 * PER_PLACE, 1, w_init=_normal(0.01), name='shifts')

    def __call__(self, grid: jax.Array) -> tuple[jax.Array, jax.Array]:
        """[N, H, W, C] to logits [N, A] and shifts [N, A, 4], in the order of `make_anchors`."""
        hidden = jax.nn.relu(self.hidden(grid))
        count = len(grid)
        return self.objectness(hidden).reshape(count, -1), self.shifts(hidden).reshape(count, -1, 4)


class BoxHead(hk.Module):
    """Class and shifts of each region: two hidden layers ([L] section 4.2)."""

    def __init__(self, num_classes: int, hidden: int, name: str | None = None):
        """Args: K; units of each hidden layer."""
        super().__init__(name=name)
        self.num_classes = num_classes
        self.hidden = [hk.Linear(hidden, w_init=_he(), name=f'hidden{i}') for i in range(2)]
        self.logits = hk.Linear(num_classes + 1, w_init=_normal(0.01), name='logits')
        self.shifts = hk.Linear(4 * num_classes, w_init=_normal(0.001), name='shifts')

    def __call__(self, pooled: jax.Array) -> tuple[jax.Array, jax.Array]:
        """[R, BOX_BINS, BOX_BINS, C] to logits [R, K + 1], background last, and shifts [R, K, 4]."""
        out = pooled.reshape(len(pooled), -1)
        for layer in self.hidden:
            out = jax.nn.relu(layer(out))
        return self.logits(out), self.shifts(out).reshape(len(pooled), self.num_classes, 4)


class MaskHead(hk.Module):
    """A mask of each region for each class ([H] figure 4, right)."""

    def __init__(self, num_classes: int, channels: int, name: str | None = None):
        """Args: K; channels of all but the last convolution."""
        super().__init__(name=name)
        self.convs = [Conv2D(channels, 3, name=f'conv{i}') for i in range(_MASK_CONVS)]
        self.finer = hk.Linear(4 * channels, w_init=_he(), name='finer')
        self.logits = Conv2D(num_classes, 1, w_init=_normal(0.01), name='logits')

    def __call__(self, pooled: jax.Array) -> jax.Array:
        """[R, MASK_BINS, MASK_BINS, C] to logits [R, MASK_SIDE, MASK_SIDE, K]."""
        out = pooled
        for conv in self.convs:
            out = jax.nn.relu(conv(out))
        return self.logits(jax.nn.relu(spread(self.finer(out))))


def spread(x: jax.Array) -> jax.Array:
    """Gives each of 2 x 2 places a quarter of the channels: [R, H, W, 4 C] to [R, 2 H, 2 W, C].

    After a linear layer that is a transposed convolution of 2 x 2 px with a stride of 2, as a product, whose
    gradient a CPU computes much faster.
    """
    count, height, width, channels = x.shape
    parts = x.reshape(count, height, width, 2, 2, channels // 4).transpose(0, 1, 3, 2, 4, 5)
    return parts.reshape(count, 2 * height, 2 * width, channels // 4)


def _he() -> hk.initializers.Initializer:
    """For a ReLU after the layer (arXiv 1502.01852, section 2.2)."""
    return hk.initializers.VarianceScaling(2.0, 'fan_in', 'normal')
