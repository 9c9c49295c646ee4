"""Builds the parts that a config describes, from its settings, with the tasks: the parts take no config."""

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import haiku as hk
import jax
import jax.numpy as jnp
import ml_collections
import optax
from ml_collections import FrozenConfigDict as Config

from nfnets import parallel
from nfnets.config import from_settings
from nfnets.evaluation.evaluate import Results, Variables
from nfnets.models.networks import shapes_of
from nfnets.models.param_layout import UNSTACKED, ParamLayout, stack_alike
from nfnets.models.param_names import all_but, found_by, layer_group
from nfnets.optim.accumulate import accumulated_value_and_grad
from nfnets.optim.optimizer import OptimizerSettings, make_optimizer, warmup_cosine, warmup_drops
from nfnets.optim.sam import sam_value_and_grad
from nfnets.tasks import classification
from nfnets.tasks.task import Batches, Task
from nfnets.train_state import REPLICATED, Placement, TrainState, init_train_state, sharded_placement
from nfnets.train_step import TrainStep, ValueAndGrad, make_train_step, parallelize_step


def task(config: ml_collections.ConfigDict) -> Task:
    """What is trained; the config need not be complete."""
    if config.task == 'classification':
        return classification
    from nfnets.tasks import detection  # Late: pycocotools need not be there.

    return detection


def source(config: ml_collections.ConfigDict, split: str) -> Any:
    """The examples of one split; the config need not be complete."""
    return task(config).source(config, split)


def train_source(config: ml_collections.ConfigDict) -> Any:
    """The examples to train on, of one split or a mixture; the config need not be complete."""
    if config.data.mixture:
        return classification.mixture(config)
    return source(config, config.data.train_split)


def network(config: Config, layout: ParamLayout | None = None) -> hk.TransformedWithState:
    """The task's network, see there.

    Args:
      config: a complete one.
      layout: of the parameters that apply takes; None: as in training. Those of init are unstacked.
    """
    return task(config).network(config, param_layout(config) if layout is None else layout)


@functools.cache
def param_layout(config: Config) -> ParamLayout:
    """The layout of the parameters in training: blocks that are alike, and treated alike, are stacked."""
    if not config.model.scan:
        return UNSTACKED
    shapes, _ = variable_shapes(config)
    treatments = found_by(config.optimizer.freeze), all_but(config.optimizer.agc_skip)
    return stack_alike(shapes, config.model.depths, treatments)


def schedule(config: Config) -> optax.Schedule:
    """The learning rate by the number of updates done."""
    settings, steps = config.optimizer, config.train.steps
    if settings.drops:
        drop_steps = [fraction * steps for fraction in settings.drops]
        return warmup_drops(settings.learning_rate, settings.warmup_steps, drop_steps)
    return warmup_cosine(settings.learning_rate, settings.warmup_steps, steps)


def optimizer(config: Config) -> optax.GradientTransformation:
    """The paper's chain, for parameters in the layout of training."""
    return make_optimizer(
        schedule(config),
        from_settings(OptimizerSettings, config.optimizer),
        is_clipped=all_but(config.optimizer.agc_skip),
        is_frozen=found_by(config.optimizer.freeze),
        group_of=functools.partial(layer_group, depths=config.model.depths),
        is_stacked=param_layout(config).is_stacked,
        shard=config.train.shard_optimizer,
    )


def value_and_grad(config: Config) -> ValueAndGrad:
    """The gradient of the loss: with SAM, accumulated over parts of the batch, in the all-reduce's dtype."""

    def differentiate(loss_fn: Callable[..., Any]) -> Callable[..., Any]:
        gradient = sam_value_and_grad(loss_fn, **config.sam)
        gradient = accumulated_value_and_grad(gradient, config.train.accumulate_steps)

        def rounded(*args: Any) -> tuple[Any, hk.Params]:
            values, grads = gradient(*args)
            return values, jax.tree.map(lambda g: g.astype(config.train.all_reduce), grads)

        return rounded

    return differentiate


def train_step(config: Config, devices: Sequence[jax.Device] | None = None) -> TrainStep:
    """The data-parallel training step, on all devices there are or on, or for, those given."""
    step = make_train_step(
        task(config).loss_fn(config, network(config)),
        value_and_grad(config),
        optimizer(config),
        task(config).augment(config),
        ema_decay=config.optimizer.ema_decay,
        is_reported=functools.partial(_is_reported, config),
        layout=param_layout(config),
        is_sharded=config.train.shard_optimizer,
    )
    return parallelize_step(step, placement(config).axes, devices)


def placement(config: Config, devices: Sequence[jax.Device] | None = None) -> Placement:
    """Where the state lies between steps, on all devices there are or on, or for, those given."""
    return sharded_placement(devices) if config.train.shard_optimizer else REPLICATED


def _is_reported(config: Config, step: jax.Array) -> jax.Array:
    """Whether the norms of a step are logged, or looked at before it is saved."""
    every = (config.train.log_every_steps, config.checkpoint.every_steps, config.train.steps)
    return functools.reduce(jnp.logical_or, [step % n == 0 for n in every])


def initial_variables(config: Config, key: jax.Array) -> tuple[hk.Params, hk.State]:
    """Unstacked parameters and network state before the first step."""
    return task(config).initial_variables(config, network(config, UNSTACKED), key)


def variable_shapes(config: Config) -> tuple[Any, Any]:
    """{module: {name: shape and dtype}} of the parameters, unstacked, and the state; nothing is computed."""
    return shapes_of(functools.partial(initial_variables, config), jax.random.key(0))


def num_parameters(config: Config) -> int:
    """Number of parameters of the network, by their shapes."""
    params, _ = variable_shapes(config)
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(params))


def new_state(config: Config) -> TrainState:
    """The state before the first step, from a fixed key: to trace, or to time a step with."""
    params, network_state = initial_variables(config, jax.random.key(0))
    return init_train_state(param_layout(config).stack(params), optimizer(config), network_state)


def lower_train_step(config: Config, devices: Sequence[jax.Device] | None = None) -> jax.stages.Lowered:
    """The training step, traced from shapes: nothing is computed or allocated.

    Args:
      config: a complete one.
      devices: to compile it for, which need not be here; None: all there are.
    """
    devices = jax.devices() if devices is None else devices
    return train_step(config, devices).lower(*step_arguments(config, devices))  # type: ignore[attr-defined]


def step_arguments(
    config: Config, devices: Sequence[jax.Device]
) -> tuple[TrainState, dict[str, Any], jax.Array]:
    """Shapes of the training step's arguments on those devices: the state, a batch, and the key."""
    here, per_device = parallel.num_local(devices), config.train.batch_size // len(devices)
    batch = {
        name: jax.ShapeDtypeStruct((here, *x.shape), x.dtype)
        for name, x in task(config).batch_shapes(config, per_device).items()
    }
    state = shapes_of(functools.partial(new_state, config))
    if config.train.shard_optimizer:
        state = jax.eval_shape(placement(config, devices).place, state)
    return state, batch, jax.eval_shape(lambda: jax.random.key(0))


def train_batches(config: Config, examples: Any, position: int, num_devices: int | None = None) -> Batches:
    """This process's part of the training stream.

    Args:
      config: a complete one.
      examples: the training split.
      position: data position of the whole run to start from, images.
      num_devices: that share a batch; None: all there are.
    """
    return task(config).train_batches(config, examples, position, num_devices or jax.device_count())


def evaluation(config: Config, examples: Any) -> Callable[[Mapping[str, Variables]], Results]:
    """What is measured in a run: a function of variables by name, 'eval' and their EMA, 'eval_ema'.

    Raises:
      InputError: data that it needs besides the examples cannot be used.
    """
    return task(config).evaluation(config, examples, network(config))
