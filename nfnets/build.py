"""Builds the parts that a config describes; with `nfnets/train.py` the only code that reads settings."""

import dataclasses
import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

import haiku as hk
import jax
import jax.numpy as jnp
import ml_collections
import optax
from ml_collections import FrozenConfigDict as Config

from nfnets import config as config_lib
from nfnets import parallel
from nfnets.data import stream
from nfnets.data.augment import Augmentation, augment
from nfnets.data.decode import TrainCrop
from nfnets.data.preprocessing import Preprocessing
from nfnets.data.source import Source, load_source
from nfnets.errors import InputError
from nfnets.evaluation.evaluate import Look, Results, Variables, evaluate, make_eval_step
from nfnets.evaluation.probe import Probe, make_feature_step
from nfnets.losses import LOSSES, Loss
from nfnets.models.networks import NETWORKS, init_variables, make_network, variable_shapes
from nfnets.models.param_layout import UNSTACKED, ParamLayout, stack_alike
from nfnets.models.param_names import all_but, found_by, is_classifier, layer_group
from nfnets.optim.accumulate import accumulated_value_and_grad
from nfnets.optim.optimizer import OptimizerSettings, make_optimizer, warmup_cosine
from nfnets.optim.sam import sam_value_and_grad
from nfnets.train_state import REPLICATED, Placement, TrainState, init_train_state, sharded_placement
from nfnets.train_step import TrainStep, ValueAndGrad, make_loss_fn, make_train_step, parallelize_step

_Settings = TypeVar('_Settings')


def _from_config(kind: Callable[..., _Settings], settings: Any) -> _Settings:
    """A dataclass whose fields are called as the settings of a group."""
    return kind(**{field.name: settings[field.name] for field in dataclasses.fields(kind)})  # type: ignore[arg-type]


def source(config: ml_collections.ConfigDict, split: str) -> Source:
    """The examples of one split; the config need not be complete."""
    return load_source(config.data.source, name=config.data.name, directory=config.data.dir, split=split)


def network(config: Config, layout: ParamLayout | None = None) -> hk.TransformedWithState:
    """The network: apply takes (params, network_state, key, images [N, H, W, 3], is_training).

    Args:
      config: a complete one.
      layout: of the parameters that apply takes; None: as in training. Those of init are unstacked.
    """
    model = config.model
    execution: dict[str, Any] = {}
    if NETWORKS[model.name].can_scan:
        execution = {'layout': param_layout(config) if layout is None else layout, 'remat': model.remat}
    return make_network(
        model.name,
        model.num_classes,
        config_lib.make_variant(config),
        dropout_rate=model.dropout_rate,
        stochastic_depth_rate=model.stochastic_depth_rate,
        activation=model.activation,
        **execution,
    )


@functools.cache
def param_layout(config: Config) -> ParamLayout:
    """The layout of the parameters in training: blocks that are alike, and treated alike, are stacked."""
    if not config.model.scan:
        return UNSTACKED
    shapes, _ = variable_shapes(network(config, UNSTACKED))
    treatments = found_by(config.optimizer.freeze), all_but(config.optimizer.agc_skip)
    return stack_alike(shapes, config.model.depths, treatments)


def schedule(config: Config) -> optax.Schedule:
    """The learning rate by the number of updates done."""
    settings = config.optimizer
    return warmup_cosine(settings.learning_rate, settings.warmup_steps, config.train.steps)


def optimizer(config: Config) -> optax.GradientTransformation:
    """The paper's chain, for parameters in the layout of training."""
    return make_optimizer(
        schedule(config),
        _from_config(OptimizerSettings, config.optimizer),
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


def loss(config: Config) -> Loss:
    """What is minimized in training, and reported by evaluation."""
    return LOSSES[config.train.loss]


def augmentation(config: Config) -> Augmentation:
    """The augmentation of a device's images before the network sees them."""
    return _from_config(Augmentation, config.augment)


def train_step(config: Config, devices: Sequence[jax.Device] | None = None) -> TrainStep:
    """The data-parallel training step, on all devices there are or on, or for, those given."""
    loss_fn = make_loss_fn(
        network(config),
        num_classes=config.model.num_classes,
        label_smoothing=config.train.label_smoothing,
        precision=config.train.precision,
        is_frozen=found_by(config.optimizer.freeze),
        loss=loss(config),
    )
    step = make_train_step(
        loss_fn,
        value_and_grad(config),
        optimizer(config),
        functools.partial(augment, augmentation(config)),
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
    """Unstacked parameters and network state before the first step; the loss may set a bias."""
    params, network_state = init_variables(network(config), key)
    initial_bias = loss(config).initial_bias
    if initial_bias is not None:
        classifier = next(filter(is_classifier, params))
        bias = jnp.full_like(params[classifier]['b'], initial_bias(config.model.num_classes))
        params = {**params, classifier: {**params[classifier], 'b': bias}}
    return params, network_state


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
    size = config.data.train_size
    here = parallel.num_local(devices)
    per_device = config.train.batch_size // len(devices) * augmentation(config).images_per_example
    batch = {
        'images': jax.ShapeDtypeStruct((here, per_device, size, size, 3), jnp.uint8),
        'labels': jax.ShapeDtypeStruct((here, per_device), jnp.int32),
    }
    state = jax.eval_shape(functools.partial(new_state, config))
    if config.train.shard_optimizer:
        state = jax.eval_shape(placement(config, devices).place, state)
    return state, batch, jax.eval_shape(lambda: jax.random.key(0))


def train_batches(
    config: Config, examples: Source, position: int, num_devices: int | None = None
) -> stream.TrainBatches:
    """This process's part of the training stream.

    Args:
      config: a complete one.
      examples: the training split.
      position: data position of the whole run to start from, images.
      num_devices: that share a batch; None: all there are.
    """
    data = config.data
    per_device = config.train.batch_size // (num_devices or jax.device_count())
    return stream.train_batches(
        examples,
        TrainCrop(data.train_size, data.eval_margin, data.crop_area, data.flip),
        seed=config.seed,
        position=position,
        batch_size=config.train.batch_size * augmentation(config).images_per_example // data.repeats,
        skip_broken=data.skip_broken,
        needs_label=loss(config).needs_label,
        repeats=data.repeats,
        # So that no partner of an image, `per_device` or one place away, is a crop of the same.
        per_round=per_device // data.repeats if data.repeats > 1 else 1,
    )


def preprocessing(config: Config) -> Preprocessing:
    """The resizing and cropping of images in evaluation."""
    return Preprocessing(config.data.eval_size, config.data.eval_margin, config.data.eval_style)


def evaluation(
    config: Config,
    examples: Source,
    watch: Callable[[stream.EvalBatches], Iterable[stream.Batch]] = iter,
    *,
    classes: Sequence[int] | None = None,
    look: Look | None = None,
    instead: hk.TransformedWithState | None = None,
) -> Callable[[Mapping[str, Variables]], Results]:
    """Evaluates sets of variables by name over all of the examples.

    Args:
      config: a complete one.
      examples: the split.
      watch: hands the batches through.
      classes: labels whose logits are kept; None: all.
      look: called with what is said of each batch.
      instead: the network that the variables are of; None: the config's, in the layout of training.
    """
    eval_step = make_eval_step(
        instead or network(config), classes, predicts=look is not None, loss=loss(config)
    )
    num_kept = config.model.num_classes if classes is None else len(classes)

    def run(variables_by_name: Mapping[str, Variables]) -> Results:
        batches = stream.eval_batches(
            examples,
            preprocessing(config),
            batch_size=config.eval.batch_size,
            skip_broken=config.data.skip_broken,
        )

        def expected_examples() -> int:
            return len(examples) - parallel.sum_over_processes(batches.skipped)

        tally_classes = num_kept if examples.label_shape else None
        return evaluate(eval_step, variables_by_name, watch(batches), expected_examples, look, tally_classes)

    return run


def probe(config: Config) -> Callable[[Variables], Results]:
    """Probes of variables, {'probe': {name: accuracy}}; {} if the config has none.

    Raises:
      InputError: its data cannot be used.
    """
    settings = config.probe
    if settings.source is None:
        return lambda variables: {}
    batches = functools.partial(
        stream.eval_batches,
        preprocessing=preprocessing(config),
        batch_size=config.eval.batch_size,
        skip_broken=config.data.skip_broken,
    )
    open_split = functools.partial(load_source, settings.source, name=settings.name, directory=settings.dir)
    try:
        train, evaluation = (open_split(split=split) for split in (settings.train_split, settings.eval_split))
        step = make_feature_step(network(config))
        run = Probe(step, batches, train, evaluation, shots=settings.shots, linear=settings.linear)
    except InputError as error:
        raise InputError(f'the data of the probe: {error}') from error
    return lambda variables: {'probe': run(variables)}
