"""SkipInit ResNet: without normalization, each branch times a learned scalar that starts at 0.

De & Smith 2020, arXiv 2002.10444. A baseline of NF-ResNets, with their stem, widths and depths. Names and
shapes of the parameters are those of the code released with arXiv 2102.06171. Convolutions start after He et
al. 2015, where that code has Haiku's default, of half the variance.
"""

import haiku as hk
import jax
import jax.numpy as jnp

from nfnets.models.activations import PLAIN_ACTIVATIONS
from nfnets.models.layers import Conv2D, Outputs, pooled_outputs, stem_pool
from nfnets.models.nf_resnet import BlockStyle, NFResBlock
from nfnets.models.param_layout import UNSTACKED, ParamLayout
from nfnets.models.stages import lay_out, make_stages, run_stages
from nfnets.models.variants import RESNETS, Variant, choose


class SkipInitResNet(hk.Module):
    """A pre-activation ResNet with SkipInit, or one of its blocks with other widths and depths."""

    def __init__(
        self,
        num_classes: int,
        variant: str | Variant = 'ResNet50',
        *,
        dropout_rate: float | None = None,
        stochastic_depth_rate: float = 0.1,
        activation: str = 'relu',
        layout: ParamLayout = UNSTACKED,
        remat: bool = False,
        name: str = 'SkipInit_ResNet',
    ):
        """Creates the network: arguments as of `NFResNet`; activations are not scaled."""
        super().__init__(name=name)
        variant, self.dropout_rate = choose(variant, RESNETS, dropout_rate)
        self.activation = PLAIN_ACTIVATIONS[activation]
        self.layout, self.remat = layout, remat
        self.initial_conv = Conv2D(variant.widths[0] // 4, 7, 2, with_bias=False, name='initial_conv')
        # No branch is thought to add variance: blocks divide their input by 1.
        places = lay_out(
            variant.widths, variant.depths, stochastic_depth_rate=stochastic_depth_rate, alpha=0.0
        )
        style = BlockStyle(self.activation, Conv2D, alpha=1.0)
        self.stages = make_stages(places, lambda place: NFResBlock(place, variant, style))
        self.linear = hk.Linear(num_classes, w_init=jnp.zeros, name='linear')

    def __call__(self, images: jax.Array, is_training: bool) -> Outputs:
        """Classifies images [N, H, W, 3] as `NFNet` does."""
        grids = self.grids(images, is_training)
        out = self.activation(grids[-1])
        return pooled_outputs(self.linear, out, grids, self.dropout_rate, is_training)

    def grids(self, images: jax.Array, is_training: bool) -> tuple[jax.Array, ...]:
        """The feature maps of each stage, as of `NFNet`."""
        out = stem_pool(self.initial_conv(images))
        return run_stages(self.stages, out, is_training, layout=self.layout, remat=self.remat)
