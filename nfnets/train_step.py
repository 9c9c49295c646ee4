"""One update: augment, differentiate, average over devices, clip and apply, move the average."""

import contextlib
import functools
from collections.abc import Callable, Sequence
from typing import Any

import haiku as hk
import jax
import jax.numpy as jnp
import optax

from nfnets import losses, parallel
from nfnets.data.augment import AugmentedBatch
from nfnets.models.stacks import NO_STACKS, Stacks, is_stacked
from nfnets.optim.accumulate import accumulated_value_and_grad
from nfnets.optim.ema import update_ema
from nfnets.optim.freeze import Predicate
from nfnets.optim.optimizer import clipped_by_group, clipped_fraction, mask
from nfnets.optim.sam import sam_value_and_grad
from nfnets.precision import float32_products
from nfnets.train_state import TrainState

Metrics = dict[str, Any]
Augment = Callable[[jax.Array, jax.Array, jax.Array], AugmentedBatch]
TrainStep = Callable[[TrainState, dict, jax.Array], tuple[TrainState, Metrics]]


def make_train_step(
    network: hk.TransformedWithState,
    optimizer: optax.GradientTransformation,
    augment: Augment,
    *,
    num_classes: int,
    label_smoothing: float,
    precision: str,
    ema_decay: float,
    sam_rho: float,
    sam_ascent_fraction: float,
    accumulate_steps: int,
    is_frozen: Predicate,
    stacks: Stacks = NO_STACKS,
    devices: Sequence[jax.Device] | None = None,
) -> TrainStep:
    """Builds the parallel training step.

    Args:
      network: its apply takes (params, network_state, key, images [N, H, W, 3], is_training) and gives
        outputs with 'logits', and the state: each device, or each part of its batch, makes its own from the
        last, and they are averaged.
      optimizer: whose state knows the fraction clipped (`make_optimizer`).
      augment: (key, images uint8 [M, H, W, 3], labels [M]) to an augmented batch of N.
      num_classes: K.
      label_smoothing: share of each target that is spread over all classes.
      precision: 'float32', of products too (`float32_products`), or 'bfloat16' for the paper's policy:
        parameters and images are cast for the passes forward and back, the gradients come out in float32
        before devices add them up, and parameters, optimiser and loss stay in float32.
      ema_decay: what the decay of the parameters' average grows to.
      sam_rho: as of `sam_value_and_grad`, and so is the fraction.
      sam_ascent_fraction: of this device's batch, or of each part of it.
      accumulate_steps: parts that this device's batch is computed in, a divisor of N.
      is_frozen: whether a parameter, by module and name, is a constant; its gradient is zero, and free.
      stacks: blocks whose parameters are stacked in the state.
      devices: as of `parallel.parallelize`.

    Returns:
      (state, batch, key) to (state, metrics). The batch has 'images' uint8 [D, M, H, W, 3] and
      'labels' int32 [D, M] for the D devices of this process; the key is the run's, the same at every
      step; the state is donated. Metrics are scalars but for 'agc_clipped_by_group', scalars by name, and
      'grad_sum_squares' [parameters], whose order is that of `parameter_names`.
    """
    dtype = jnp.dtype(precision)
    products = float32_products if precision == 'float32' else contextlib.nullcontext

    def loss_fn(
        network_state: hk.State, params: hk.Params, batch: AugmentedBatch, key: jax.Array
    ) -> tuple[jax.Array, tuple[jax.Array, hk.State]]:
        params = jax.tree.map(
            lambda p, frozen: jax.lax.stop_gradient(p) if frozen else p, params, mask(params, is_frozen)
        )
        cast_params = jax.tree.map(lambda p: p.astype(dtype), params)
        out, network_state = network.apply(cast_params, network_state, key, batch.images.astype(dtype), True)
        targets = losses.soft_targets(
            batch.labels,
            batch.mix_labels,
            batch.ratio,
            num_classes=num_classes,
            label_smoothing=label_smoothing,
        )
        loss = jnp.mean(losses.cross_entropy(out['logits'], targets))
        top_1 = jnp.mean(jnp.argmax(out['logits'], axis=-1) == batch.labels)
        return loss, (top_1, network_state)

    def value_and_grad_at(network_state: hk.State) -> Callable[..., Any]:
        at_state = functools.partial(loss_fn, network_state)
        value_and_grad = sam_value_and_grad(at_state, rho=sam_rho, ascent_fraction=sam_ascent_fraction)
        return accumulated_value_and_grad(value_and_grad, accumulate_steps)

    def train_step(
        state: TrainState, batch: dict[str, jax.Array], run_key: jax.Array
    ) -> tuple[TrainState, Metrics]:
        key = parallel.device_key(jax.random.fold_in(run_key, state.step))
        augment_key, network_key = jax.random.split(key)
        augmented = augment(augment_key, batch['images'], batch['labels'])
        value_and_grad = value_and_grad_at(state.network_state)
        with products():
            values_and_grads = value_and_grad(state.params, augmented, network_key)
        (loss, (top_1, network_state)), grads = parallel.mean(values_and_grads)

        updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        ema_params, ema_network_state = update_ema(
            (state.ema_params, state.ema_network_state), (params, network_state), state.step, ema_decay
        )
        metrics = {
            'loss': loss,
            'top_1': top_1,
            'grad_sum_squares': sum_squares(grads, stacks),
            'update_norm': optax.tree.norm(updates),
            'param_norm': optax.tree.norm(params),
            'agc_clipped_fraction': clipped_fraction(opt_state),
            'agc_clipped_by_group': clipped_by_group(opt_state),
        }
        state = TrainState(state.step + 1, params, network_state, ema_params, ema_network_state, opt_state)
        return state, metrics

    return parallel.parallelize(train_step, batch_argument=1, donate_argument=0, devices=devices)


def sum_squares(tree: hk.Params, stacks: Stacks) -> jax.Array:
    """Sum of squares of every parameter or gradient, float32 [parameters], as `parameter_names` orders."""
    sums = [
        jnp.sum(jnp.square(x), axis=tuple(range(1, x.ndim)) if stacked else None)
        for x, stacked in zip(jax.tree.leaves(tree), jax.tree.leaves(is_stacked(tree, stacks)), strict=True)
    ]
    return jnp.concatenate([jnp.ravel(each) for each in sums])


def parameter_names(params: hk.Params, stacks: Stacks = NO_STACKS) -> list[str]:
    """'module/name' of every parameter, of each block its own, in the order of 'grad_sum_squares'."""
    leaves = jax.tree.leaves_with_path(params)
    return [f'{each}/{path[1].key}' for path, _ in leaves for each in stacks.get(path[0].key, [path[0].key])]
