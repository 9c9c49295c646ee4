"""Mean and variance of a signal against depth: signal propagation plots (arXiv 2101.08692, section 3)."""

from collections.abc import Callable
from typing import Any, NamedTuple

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np

from nfnets.models.activations import PLAIN_ACTIVATIONS
from nfnets.models.stages import ALPHA, lay_out
from nfnets.models.variants import Variant


class Signal(NamedTuple):
    """Statistics of the activations at each depth; of B blocks, B + 1 depths, 0 being the first one's input.

    Attributes:
      squared_mean: mean over channels of the square of each one's mean over examples and places, [B + 1].
      variance: mean over channels of each one's variance over examples and places, [B + 1].
      branch_variance: the same of each residual branch before it is scaled, [B].
    """

    squared_mean: np.ndarray
    variance: np.ndarray
    branch_variance: np.ndarray


def make_measure(network: hk.TransformedWithState) -> Callable[[hk.Params, hk.State, jax.Array], Signal]:
    """Looks at what leaves the blocks of a network: all its modules with a `branch`.

    Args:
      network: without dropout and stochastic depth, from `make_network`; batch normalization uses the batch.

    Returns:
      (params, network_state, images [N, H, W, 3], normalized) to the signal.
    """

    @jax.jit
    def forward(
        params: hk.Params, network_state: hk.State, images: jax.Array
    ) -> tuple[jax.Array, jax.Array, jax.Array]:
        depths: list[jax.Array] = []
        branches: list[jax.Array] = []

        def look(call: Callable[..., Any], args: Any, kwargs: Any, context: hk.MethodContext) -> Any:
            is_block = hasattr(context.module, 'branch')
            if is_block and context.method_name == '__call__' and not depths:
                depths.append(moments(args[0]))
            out = call(*args, **kwargs)
            if is_block and context.method_name == '__call__':
                depths.append(moments(out))
            elif context.method_name == 'branch':
                branches.append(moments(out)[1])
            return out

        with hk.intercept_methods(look):
            network.apply(params, network_state, None, images, True)
        squared_mean, variance = jnp.stack(depths, axis=1)
        return squared_mean, variance, jnp.stack(branches)

    return lambda *arguments: Signal(*map(np.asarray, forward(*arguments)))


def moments(x: jax.Array) -> jax.Array:
    """Average squared channel mean and average channel variance of [N, H, W, C]: [2], float32."""
    x = x.astype(jnp.float32)
    return jnp.stack([jnp.mean(jnp.mean(x, axis=(0, 1, 2)) ** 2), jnp.mean(jnp.var(x, axis=(0, 1, 2)))])


def with_skip_gains(params: hk.Params, value: float) -> hk.Params:
    """Parameters whose skip gains all have one value: at 0, where they start, branches would not show."""
    return {
        module: {name: jnp.full_like(x, value) if name == 'skip_gain' else x for name, x in names.items()}
        for module, names in params.items()
    }


def predicted_signal(name: str, variant: Variant, alpha: float = ALPHA) -> Signal | None:
    """The prediction for a network of `NETWORKS` with its own activation; None if it is designed for none."""
    if name in ('NFNet', 'NFResNet', 'NFRegNet'):
        return predict_normalizer_free(variant, alpha)
    return predict_batch_normalized(variant) if name == 'ResNet' else None


def predict_normalizer_free(variant: Variant, alpha: float = ALPHA) -> Signal:
    """The signal that NFNets, NF-ResNets and NF-RegNets are designed for, with skip gains of 1.

    Branches have mean 0 and variance 1; each adds alpha^2 to the variance, which starts from 1 again where a
    transition's shortcut convolves a normalized input.
    """
    places = [place for stage in lay_out(variant.widths, variant.depths, alpha=alpha) for place in stage]
    before = [place.setting.beta**2 for place in places]
    after = [(1.0 if p.is_transition else v) + alpha**2 for p, v in zip(places, before, strict=True)]
    variance = np.array([1.0, *after])
    return Signal(np.zeros_like(variance), variance, np.ones(len(places)))


def predict_batch_normalized(variant: Variant, activation: str = 'relu') -> Signal:
    """The signal of a pre-activation ResNet with batch normalization, initialized after He et al. 2015.

    Branches, and the shortcuts of transitions, convolve f(x) of a normal x with weights of mean 0 and
    variance 2 / fan-in, so the moments of f(x) leave them twice as large: its squared mean as the channels'
    squared means. Blocks add them up; a transition's shortcut starts again. At depth 0, which depends on the
    image, there is no prediction (NaN).
    """
    x = np.linspace(-12, 12, 240_001)
    weights = np.exp(-(x**2) / 2)
    y = np.float64(PLAIN_ACTIVATIONS[activation](jnp.asarray(x, jnp.float32)))
    mean = np.average(y, weights=weights)
    squared_mean, variance = 2 * mean**2, 2 * np.average((y - mean) ** 2, weights=weights)
    count = np.array([number + 2 for depth in variant.depths for number in range(depth)])
    return Signal(
        np.append(np.nan, count * squared_mean),
        np.append(np.nan, count * variance),
        np.full(len(count), variance),
    )
