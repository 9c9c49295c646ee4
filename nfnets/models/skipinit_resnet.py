"""SkipInit ResNet: without normalisation, each branch times a learnt scalar that starts at 0.

De & Smith 2020, arXiv 2002.10444. A baseline of NF-ResNets, with their stem, widths and depths. Names and
shapes of the parameters are those of the code released with arXiv 2102.06171. Convolutions start after He et
al. 2015, where that code has Haiku's default, of half the variance.
"""

import haiku as hk
import jax
import jax.numpy as jnp

from nfnets.models.activations import PLAIN_ACTIVATIONS
from nfnets.models.layers import Conv2D, dropout
from nfnets.models.nf_resnet import NFResBlock
from nfnets.models.stages import lay_out, make_stages, run_stages
from nfnets.variants import RESNETS, Variant, get_variant


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
        remat: bool = False,
        name: str = 'SkipInit_ResNet',
    ):
        """Creates the network: arguments as of `NFResNet`; activations are not scaled."""
        super().__init__(name=name)
        variant = get_variant(variant, RESNETS) if isinstance(variant, str) else variant
        self.dropout_rate = variant.dropout_rate if dropout_rate is None else dropout_rate
        self.activation = PLAIN_ACTIVATIONS[activation]
        self.remat = remat
        self.initial_conv = Conv2D(variant.widths[0] // 4, 7, 2, with_bias=False, name='initial_conv')
        self.stages = make_stages(
            # No branch is thought to add variance: blocks divide their input by 1.
            lay_out(variant.widths, variant.depths, stochastic_depth_rate=stochastic_depth_rate, alpha=0.0),
            lambda place: NFResBlock(
                place.channels,
                stride=place.stride,
                is_transition=place.is_transition,
                group_width=variant.group_width,
                activation=self.activation,
                alpha=1.0,
                squeeze_excite=False,
                conv=Conv2D,
            ),
        )
        self.linear = hk.Linear(num_classes, w_init=jnp.zeros, name='linear')

    def __call__(self, images: jax.Array, is_training: bool) -> dict[str, jax.Array]:
        """Classifies images; as of `NFResNet`."""
        out = self.initial_conv(images)
        out = hk.max_pool(out, (1, 3, 3, 1), (1, 2, 2, 1), padding='SAME')
        out = run_stages(self.stages, out, is_training, remat=self.remat)
        pool = jnp.mean(self.activation(out), axis=(1, 2))
        return {'logits': self.linear(dropout(pool, self.dropout_rate, is_training)), 'pool': pool}
