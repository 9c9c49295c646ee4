"""A feature pyramid on a network's stages (Lin et al. 2017, arXiv 1612.03144, section 3)."""

from collections.abc import Sequence

import haiku as hk
import jax
import jax.numpy as jnp

from nfnets.detection.anchors import LEVELS
from nfnets.models.layers import Conv2D

_INIT = hk.initializers.VarianceScaling(1.0, 'fan_avg', 'uniform')  # Linear: nothing follows it.


class FeaturePyramid(hk.Module):
    """P2 to P5 from the ends of four stages, and P6, every second place of P5."""

    def __init__(self, channels: int, name: str | None = None):
        """Args: channels of each level."""
        super().__init__(name=name)
        of_stage = LEVELS[:-1]
        self.lateral = [Conv2D(channels, 1, w_init=_INIT, name=f'lateral{level}') for level in of_stage]
        self.output = [Conv2D(channels, 3, w_init=_INIT, name=f'output{level}') for level in of_stage]

    def __call__(self, grids: Sequence[jax.Array]) -> dict[int, jax.Array]:
        """Grids [N, H / 4, W / 4, C] to [N, H / 32, W / 32, C'] to {level: [N, H / 2^level, ..., channels]}.

        H and W must be multiples of 2^6.
        """
        lateral = [conv(grid) for conv, grid in zip(self.lateral, grids, strict=True)]
        merged = [lateral[-1]]
        for finer in lateral[-2::-1]:
            coarser = jnp.repeat(jnp.repeat(merged[0], 2, axis=1), 2, axis=2)
            merged.insert(0, finer + coarser)
        outputs = [conv(grid) for conv, grid in zip(self.output, merged, strict=True)]
        return dict(zip(LEVELS, [*outputs, outputs[-1][:, ::2, ::2]], strict=True))
