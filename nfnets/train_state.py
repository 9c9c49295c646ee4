"""All that changes from step to step: the one thing that is donated and checkpointed."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import optax

from nfnets import parallel
from nfnets.optim.sharded import own_part, whole


class TrainState(NamedTuple):
    """State of a run after `step` updates.

    Random numbers are a function of the run's seed and the step, so there is no key here.

    Attributes:
      step: updates done, int32 [].
      params: {module: {name: array}}, float32; those of blocks that are alike may be stacked.
      network_state: statistics of batch normalization, alike; {} for networks without it.
      ema_params: EMA of the parameters, alike.
      ema_network_state: of the network's state.
      opt_state: of the optimizer.
    """

    step: jax.Array
    params: hk.Params
    network_state: hk.State
    ema_params: hk.Params
    ema_network_state: hk.State
    opt_state: optax.OptState


def init_train_state(
    params: hk.Params, optimizer: optax.GradientTransformation, network_state: hk.State | None = None
) -> TrainState:
    """The state before the first step: the EMAs start at the parameters and at the network's state.

    Args:
      params: {module: {name: array}}, float32, stacked or not.
      optimizer: whose state is initialized.
      network_state: statistics of batch normalization, alike; None for networks without it.
    """

    # As one program: one for each shape of a parameter would take longer to compile.
    @jax.jit
    def init(params: hk.Params, network_state: hk.State) -> TrainState:
        return TrainState(
            step=jnp.zeros((), jnp.int32),
            params=params,
            network_state=network_state,
            # Copies: donation takes the memory of each leaf, which must not be that of another.
            ema_params=jax.tree.map(jnp.copy, params),
            ema_network_state=jax.tree.map(jnp.copy, network_state),
            opt_state=optimizer.init(params),
        )

    return init(params, network_state or {})


def map_params(fn: Callable[[hk.Params], hk.Params], state: TrainState) -> TrainState:
    """Applies a function to the parameters, to their EMA, and to what the optimizer keeps for each.

    What a masked transformation keeps for some of the parameters is not expected.
    """
    return _map_like(state.params, fn, state)


def _map_like(params: hk.Params, fn: Callable[[hk.Params], hk.Params], tree: Any) -> Any:
    def is_params(part: Any) -> bool:
        return isinstance(part, dict) and part.keys() == params.keys()

    return jax.tree.map(lambda x: fn(x) if is_params(x) else x, tree, is_leaf=is_params)


class Placement(NamedTuple):
    """Where the state of a run lies between steps.

    Attributes:
      axes: of its fields, for `parallel.parallelize`.
      place: puts a state, whole, on the devices of this process as the training step takes it.
      gather: makes it whole again, on each device.
    """

    axes: Any
    place: Callable[[TrainState], TrainState]
    gather: Callable[[TrainState], TrainState]


REPLICATED = Placement(parallel.SAME, parallel.replicate, lambda state: state)


def sharded_placement(devices: Sequence[jax.Device] | None = None) -> Placement:
    """The placement with momentum and EMA sharded over the devices, see `nfnets/optim/sharded.py`.

    Args:
      devices: that the placement is for, or only compiled for; None: all there are.
    """
    same, split = parallel.SAME, parallel.SPLIT
    axes = TrainState(same, same, same, split, same, split)  # type: ignore[arg-type]

    def change(fn: Callable[[hk.Params], hk.Params], state: TrainState) -> TrainState:
        ema_params, opt_state = _map_like(state.params, fn, (state.ema_params, state.opt_state))
        return state._replace(ema_params=ema_params, opt_state=opt_state)

    def own(state: TrainState, _: jax.Array) -> TrainState:
        return change(own_part, state)

    def gather(state: TrainState) -> TrainState:
        return change(lambda parts: whole(parts, state.params), state)

    place = parallel.parallelize(own, arguments=(same, split), results=axes, devices=devices)
    on_each = np.zeros(parallel.num_local(devices))  # `jax.pmap` wants an argument that is split.
    return Placement(
        axes,
        lambda state: place(state, on_each),
        parallel.parallelize(gather, arguments=(axes,), devices=devices),
    )
