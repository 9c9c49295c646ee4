"""The optimizer of the paper, as one chain in written order (arXiv 2102.06171, section 4.1, appendix A)."""

import dataclasses
import math
import re
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax

from nfnets.models.param_names import Predicate, map_names
from nfnets.optim.agc import adaptive_grad_clip
from nfnets.optim.sharded import sharded

_NOT_DECAYED = re.compile(r'(?:.*/)?(?:[^/]*gain|bias[^/]*|b|scale|offset)')


@dataclasses.dataclass(frozen=True)
class OptimizerSettings:
    """Numbers of the chain, as in `config.optimizer`.

    Attributes:
      momentum: of Nesterov's kind, 0..1.
      weight_decay: factor of the parameters.
      agc_clipping: largest ratio of a unit's gradient norm to its parameters' norm.
      agc_eps: least parameter norm of a unit.
      max_grad_norm: largest norm of all gradients together, to which they are scaled down before AGC.
      lars_trust: above 0, the update of each decayed parameter is scaled to this fraction of its norm before
        momentum (LARS, arXiv 1708.03888); not where parameters are stacked.
    """

    momentum: float
    weight_decay: float
    agc_clipping: float
    agc_eps: float
    max_grad_norm: float = math.inf
    lars_trust: float = 0.0


def warmup_cosine(learning_rate: float, warmup_steps: float, total_steps: int) -> optax.Schedule:
    """Linear from 0 to the peak, then half a cosine to 0, where it stays.

    Args:
      learning_rate: at the peak.
      warmup_steps: until the peak; need not be whole (5 epochs of ImageNet are 1563.9 steps of 4096).
      total_steps: warm-up included.

    Returns:
      Schedule from the number of updates done to the learning rate of the next.
    """
    return optax.warmup_cosine_decay_schedule(
        init_value=0.0, peak_value=learning_rate, warmup_steps=warmup_steps, decay_steps=total_steps
    )


def warmup_drops(learning_rate: float, warmup_steps: float, drop_steps: Sequence[float]) -> optax.Schedule:
    """Linear from 0 to the peak, where it stays but for falling to a tenth at some steps.

    Args:
      learning_rate: at the peak.
      warmup_steps: until the peak; need not be whole.
      drop_steps: numbers of updates done after which it falls, each time to a tenth.
    """

    def schedule(count: Any) -> Any:
        warm = jnp.minimum(1.0, count / warmup_steps) if warmup_steps else 1.0
        falls = sum(count >= step for step in drop_steps)
        return learning_rate * warm * 0.1**falls

    return schedule


def is_decayed(name: str) -> bool:
    """Whether weight decay applies to a parameter: to all but gains, scales, biases and offsets."""
    return _NOT_DECAYED.fullmatch(name) is None


def make_optimizer(
    learning_rate: optax.ScalarOrSchedule,
    settings: OptimizerSettings,
    *,
    is_clipped: Predicate,
    is_frozen: Predicate = lambda name: False,
    group_of: Callable[[str], str] = lambda name: 'all',
    is_stacked: Predicate = lambda name: False,
    shard: bool = False,
) -> optax.GradientTransformation:
    """Stochastic gradient descent as the NFNets are trained with.

    Weight decay is coupled: added to the clipped gradient, before momentum sees it.

    Args:
      learning_rate: or its schedule.
      settings: numbers of the chain.
      is_clipped: whether AGC applies to a parameter, by its name 'module/name'.
      is_frozen: whether a parameter is never changed.
      group_of: as of `adaptive_grad_clip`, for `clipped_by_group`.
      is_stacked: as of `adaptive_grad_clip`.
      shard: momentum over the devices (`nfnets/optim/sharded.py`).

    Returns:
      An `optax.GradientTransformation`; its update needs `params`.
    """

    def masked(transform: optax.GradientTransformation, applies: Predicate) -> optax.GradientTransformation:
        return optax.masked(transform, lambda params: map_names(applies, params))

    clip, trust = optax.identity(), optax.identity()
    if settings.max_grad_norm < math.inf:
        clip = optax.clip_by_global_norm(settings.max_grad_norm)
    if settings.lars_trust > 0:
        trust = optax.scale_by_trust_ratio(trust_coefficient=settings.lars_trust)
    momentum = optax.trace(settings.momentum, nesterov=True)
    agc = adaptive_grad_clip(settings.agc_clipping, settings.agc_eps, group_of, is_stacked)
    return optax.chain(
        clip,
        masked(agc, lambda name: is_clipped(name) and not is_frozen(name)),
        masked(optax.add_decayed_weights(settings.weight_decay), is_decayed),
        masked(trust, is_decayed),
        sharded(momentum) if shard else momentum,
        optax.scale_by_learning_rate(learning_rate),
        masked(optax.set_to_zero(), is_frozen),
    )


def clipped_fraction(opt_state: optax.OptState) -> jax.Array:
    """Fraction of the units that AGC clipped in the last update, float32 []."""
    return optax.tree_utils.tree_get(opt_state, 'clipped_fraction')


def clipped_by_group(opt_state: optax.OptState) -> dict[str, jax.Array]:
    """Fraction of each group's units clipped in the last update, by name; groups without AGC are missing."""
    return optax.tree_utils.tree_get(opt_state, 'clipped_by_group')
