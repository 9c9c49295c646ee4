"""One update: augment, differentiate, average over devices, clip and apply, move the EMA."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import optax

from nfnets import parallel
from nfnets.models.param_layout import UNSTACKED, ParamLayout
from nfnets.models.param_names import map_names
from nfnets.models.row_major import row_major
from nfnets.optim.ema import update_ema
from nfnets.optim.optimizer import clipped_by_group, clipped_fraction
from nfnets.optim.sharded import own_part
from nfnets.train_state import TrainState

Metrics = dict[str, Any]
# (key, arrays of the batch by name) to what the loss takes, a tree of arrays [N, ...].
Augment = Callable[..., Any]
# (network_state, params, batch, key) to (loss, (metrics, network_state)): scalars, means over the batch.
LossFn = Callable[[hk.State, hk.Params, Any, jax.Array], tuple[jax.Array, tuple[Metrics, hk.State]]]
# A loss of (params, batch, key) to a function of the same that gives ((loss, aux), grads).
ValueAndGrad = Callable[[Callable[..., Any]], Callable[..., Any]]
TrainStep = Callable[[TrainState, dict, jax.Array], tuple[TrainState, Metrics]]

# In place of norms that are not reported, or not yet known.
_NO_NORMS = dict.fromkeys(('update_norm', 'param_norm'), np.zeros((), np.float32))


def make_train_step(
    loss_fn: LossFn,
    value_and_grad: ValueAndGrad,
    optimizer: optax.GradientTransformation,
    augment: Augment,
    *,
    ema_decay: float,
    is_reported: Callable[[jax.Array], bool | jax.Array] = lambda step: True,
    layout: ParamLayout = UNSTACKED,
    is_sharded: bool = False,
) -> TrainStep:
    """Builds the data-parallel training step of one device, to be run by `parallel.parallelize`.

    Args:
      loss_fn: of a task. Each device, or each part of its batch, makes its own network state from
        the last, and they are averaged.
      value_and_grad: how it is differentiated: `jax.value_and_grad` with has_aux, SAM, accumulation. Its
        gradients are all-reduced in their own dtype.
      optimizer: whose state knows the fraction clipped (`make_optimizer`).
      augment: of the task, called with a random key and a device's part of a batch.
      ema_decay: what the decay of the EMA of the parameters grows to.
      is_reported: whether the metrics of a step, counted from 1, include norms of updates and parameters.
      layout: of the parameters in the state.
      is_sharded: whether the state's momentum and EMA are those of this device's rows of the parameters.

    Returns:
      (state, batch, key) to (state, metrics). The batch has arrays by name, this device's; the key is the
      run's, the same at every step. Metrics are scalars, those of the task among them, but for
      'agc_clipped_by_group', scalars by name, and 'grad_sum_squares' [parameters], in the order of
      `ParamLayout.names`; 'update_norm' and 'param_norm' are 0 on TPUs where they are not reported.
    """

    def norms(updates: optax.Updates, params: hk.Params) -> Metrics:
        return {'update_norm': optax.tree.norm(updates), 'param_norm': optax.tree.norm(params)}

    def norms_if_reported(step: jax.Array, params: hk.Params, *rest: Any) -> Metrics:
        def ahead(params: hk.Params, grads: hk.Params, opt_state: optax.OptState) -> Metrics:
            updates, _ = optimizer.update(grads, opt_state, params)
            return norms(updates, optax.apply_updates(params, updates))

        return jax.lax.cond(is_reported(step), ahead, lambda *_: _NO_NORMS, params, *rest)

    def train_step(
        state: TrainState, batch: dict[str, jax.Array], run_key: jax.Array
    ) -> tuple[TrainState, Metrics]:
        augment_key, network_key = step_keys(run_key, state.step, parallel.device_index())
        with jax.named_scope('augment'):
            augmented = augment(augment_key, **batch)
        differentiate = value_and_grad(functools.partial(loss_fn, state.network_state))
        values_and_grads = differentiate(state.params, augmented, network_key)
        (loss, (of_task, network_state)), grads = parallel.mean(values_and_grads)
        grads = jax.tree.map(lambda g, p: row_major(g.astype(p.dtype)), grads, state.params)

        with jax.named_scope('metrics'):
            # On TPUs before the update, and computing it for themselves: they take two passes over all
            # parameters, 8% of F0's step by the estimate of XLA's TPU compiler, and an update handed over to
            # them would be written to memory at every step.
            before = state.params, grads, state.opt_state
            if_reported = functools.partial(norms_if_reported, state.step + 1)
            ahead = jax.lax.platform_dependent(*before, tpu=if_reported, default=lambda *_: _NO_NORMS)
        opt_state = waiting_for(ahead['update_norm'], state.opt_state)
        with jax.named_scope('optimizer'):
            updates, opt_state = optimizer.update(grads, opt_state, state.params)
            params = optax.apply_updates(state.params, updates)
        with jax.named_scope('metrics'):
            parameter_norms = jax.lax.platform_dependent(
                ahead, updates, params, tpu=lambda ahead, *_: ahead, default=lambda _, *after: norms(*after)
            )
        with jax.named_scope('ema'):
            new = own_part(params) if is_sharded else params, network_state
            ema_params, ema_network_state = update_ema(
                (state.ema_params, state.ema_network_state), new, state.step, ema_decay
            )
        with jax.named_scope('metrics'):
            metrics = {
                'loss': loss,
                **of_task,
                'grad_sum_squares': sum_squares(grads, layout),
                **parameter_norms,
                'agc_clipped_fraction': clipped_fraction(opt_state),
                'agc_clipped_by_group': clipped_by_group(opt_state),
            }
        state = TrainState(state.step + 1, params, network_state, ema_params, ema_network_state, opt_state)
        return state, metrics

    return train_step


def parallelize_step(
    step: TrainStep, axes: Any = parallel.SAME, devices: Sequence[jax.Device] | None = None
) -> TrainStep:
    """Runs the training step on all devices, each with its part of the batch; the state is donated.

    Args:
      step: of one device.
      axes: of the state's fields (`Placement`).
      devices: as of `parallel.parallelize`.

    Returns:
      A function of the same arguments, with a batch [D, M, ...] for the D devices of this process.
    """
    arguments, results = (axes, parallel.SPLIT, parallel.SAME), (axes, parallel.SAME)
    return parallel.parallelize(
        step, arguments=arguments, results=results, donate_argument=0, devices=devices
    )


def waiting_for(norm: jax.Array, opt_state: optax.OptState) -> optax.OptState:
    """The same state, but its counters, and so the learning rate and the update, need the norm.

    Else XLA's TPU compiler copies the parameters and the momentum, to write over them before the norm has
    read them. `jax.lax.optimization_barrier` would do, but crashes on CPU with donated arrays (jax 0.10.2).
    """
    zero = (norm < 0).astype(jnp.int32)
    is_counter = lambda leaf: leaf.ndim == 0 and leaf.dtype == jnp.int32  # noqa: E731
    return jax.tree.map(lambda leaf: leaf + zero if is_counter(leaf) else leaf, opt_state)


def run_keys(seed: int) -> tuple[jax.Array, jax.Array]:
    """The random keys of the initial parameters, and of all steps of a run."""
    init_key, run_key = jax.random.split(jax.random.key(seed))
    return init_key, run_key


def step_keys(
    run_key: jax.Array, step: int | jax.Array, device: int | jax.Array
) -> tuple[jax.Array, jax.Array]:
    """The random keys of augmentation and of the network in a step on a device, both counted from 0."""
    key = jax.random.fold_in(jax.random.fold_in(run_key, step), device)
    augment_key, network_key = jax.random.split(key)
    return augment_key, network_key


def sum_squares(tree: hk.Params, layout: ParamLayout) -> jax.Array:
    """Sum of squares of every parameter or gradient, float32 [parameters], as `ParamLayout.names` orders."""
    stacked = jax.tree.leaves(map_names(layout.is_stacked, tree))
    sums = [
        jnp.sum(jnp.square(x), axis=tuple(range(1, x.ndim)) if several else None)
        for x, several in zip(jax.tree.leaves(tree), stacked, strict=True)
    ]
    return jnp.concatenate([jnp.ravel(each) for each in sums])
