"""The optimiser of the paper, as one chain in written order (arXiv 2102.06171, section 4.1, appendix A)."""

import math
import re
from collections.abc import Callable
from typing import Any

import jax
import optax

from nfnets.optim.agc import adaptive_grad_clip, none_stacked, one_group
from nfnets.optim.freeze import Predicate, nothing_frozen

_NOT_DECAYED = re.compile(r'.*gain|bias.*|b|scale|offset')


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


def is_classifier(module_name: str) -> bool:
    """Whether a module is the classifier, `NETWORK/~/linear`."""
    return module_name.count('/') == 2 and module_name.endswith('/~/linear')


def is_clipped(module_name: str, name: str) -> bool:
    """Whether AGC applies: to all but the weight of the classifier."""
    return not (is_classifier(module_name) and name == 'w')


def is_decayed(module_name: str, name: str) -> bool:
    """Whether weight decay applies: to all but gains, scales, biases, offsets and skip gains."""
    del module_name
    return _NOT_DECAYED.fullmatch(name) is None


def mask(params: optax.Params, predicate: Callable[[str, str], bool]) -> optax.Params:
    """The predicate of every parameter's module and name, as a tree of bools like `params`."""
    return {module: {name: predicate(module, name) for name in names} for module, names in params.items()}


def make_optimizer(
    learning_rate: optax.ScalarOrSchedule,
    *,
    momentum: float,
    weight_decay: float,
    agc_clipping: float,
    agc_eps: float,
    is_frozen: Predicate = nothing_frozen,
    group_of: Callable[[optax.Params], Any] = one_group,
    is_stacked: Callable[[optax.Params], Any] = none_stacked,
    is_clipped: Predicate = is_clipped,
    max_grad_norm: float = math.inf,
    lars_trust: float = 0.0,
) -> optax.GradientTransformation:
    """Stochastic gradient descent as the NFNets are trained with.

    Weight decay is coupled: added to the clipped gradient, before momentum sees it.

    Args:
      learning_rate: or its schedule.
      momentum: of Nesterov's kind, 0..1.
      weight_decay: factor of the parameters.
      agc_clipping: largest ratio of a unit's gradient norm to its parameters' norm.
      agc_eps: least parameter norm of a unit.
      is_frozen: whether a parameter, by module and name, is never changed.
      group_of: as of `adaptive_grad_clip`, for `clipped_by_group`.
      is_stacked: as of `adaptive_grad_clip`.
      is_clipped: whether AGC applies to a parameter, by module and name.
      max_grad_norm: largest norm of all gradients together, to which they are scaled down before AGC.
      lars_trust: above 0, the update of each decayed parameter is scaled to so much of its norm before
        momentum (LARS, arXiv 1708.03888); not where parameters are stacked.

    Returns:
      An `optax.GradientTransformation`; its update needs `params`.
    """

    def is_clipped_here(module_name: str, name: str) -> bool:
        return is_clipped(module_name, name) and not is_frozen(module_name, name)

    global_clip = optax.clip_by_global_norm(max_grad_norm) if max_grad_norm < math.inf else optax.identity()
    lars = optax.scale_by_trust_ratio(trust_coefficient=lars_trust) if lars_trust > 0 else optax.identity()
    return optax.chain(
        global_clip,
        optax.masked(
            adaptive_grad_clip(agc_clipping, agc_eps, group_of, is_stacked),
            lambda params: mask(params, is_clipped_here),
        ),
        optax.add_decayed_weights(weight_decay, lambda params: mask(params, is_decayed)),
        optax.masked(lars, lambda params: mask(params, is_decayed)),
        optax.trace(momentum, nesterov=True),
        optax.scale_by_learning_rate(learning_rate),
        optax.masked(optax.set_to_zero(), lambda params: mask(params, is_frozen)),
    )


def clipped_fraction(opt_state: optax.OptState) -> jax.Array:
    """Share of the units that AGC clipped in the last update, float32 []."""
    return optax.tree_utils.tree_get(opt_state, 'clipped_fraction')


def clipped_by_group(opt_state: optax.OptState) -> dict[str, jax.Array]:
    """The same of each group's units, by name; a group of which nothing is clipped is left out."""
    return optax.tree_utils.tree_get(opt_state, 'clipped_by_group')
