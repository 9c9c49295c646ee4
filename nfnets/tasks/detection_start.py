"""Starts a detector from a checkpoint: of a classifier its stem and stages, of a detector what fits, too."""

import re
from collections.abc import Sequence

import haiku as hk
import jax
import jax.numpy as jnp

from nfnets.detection.mask_rcnn import NAME
from nfnets.models.param_names import layer_group
from nfnets.weights.fit import check_params
from nfnets.weights.load import Weights

# The layers of `nfnets/detection/heads.py` that say something of each class.
_OF_CLASSES = re.compile(r'/(box_head/~/(logits|shifts)|mask_head/~/logits)$')


def start_from(
    weights: Weights, fresh: hk.Params, class_names: Sequence[str], depths: Sequence[int]
) -> tuple[hk.Params, str]:
    """Puts the parameters of a checkpoint's stem and stages into a detector's.

    Of another detector, those of the pyramid and the heads that have the same shapes are taken, too; of other
    classes none that says something of a class. Of a working directory the EMA is taken.

    Args:
      weights: the checkpoint.
      fresh: the detector's parameters as initialized.
      class_names: of the data to train on.
      depths: blocks of each stage.

    Returns:
      The parameters, and a line that reports what was taken, for people.

    Raises:
      InputError: the checkpoint's stem or stages are others.
    """
    params, _ = weights.choose(ema=weights.ema_params is not None)
    backbone = {module for module in fresh if not module.startswith(f'{NAME}/')}
    behind = {m: params[m] for m in params if m not in backbone and layer_group(m, depths) == 'head'}
    check_params(params, {**{m: fresh[m] for m in backbone}, **behind}, str(weights.path))
    has_same_classes = weights.about.class_names == tuple(class_names)
    heads = {
        m
        for m in fresh.keys() & behind.keys()
        if jax.tree.map(jnp.shape, fresh[m]) == jax.tree.map(jnp.shape, behind[m])
        and (has_same_classes or not _OF_CLASSES.search(m))
    }
    taken = {m: params[m] for m in backbone | heads}
    started = {m: {n: jnp.asarray(taken.get(m, names)[n]) for n in names} for m, names in fresh.items()}
    return started, f'starting from {weights.path} ({weights.kind}), {_describe(fresh, heads)}'


def _describe(fresh: hk.Params, heads: set[str]) -> str:
    new = sorted(m.removeprefix(f'{NAME}/~/') for m in fresh if m.startswith(f'{NAME}/') and m not in heads)
    if not heads:
        return 'its stem and stages, with a new pyramid and new heads'
    return 'all of it' if not new else f'all but {", ".join(new)}, which are new'
