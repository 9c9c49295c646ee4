"""What a config describes, built. With `nfnets/train.py` the only code that reads settings."""

import contextlib
import functools
from collections.abc import Callable, Iterable, Mapping, Sequence

import haiku as hk
import jax
import jax.numpy as jnp
import ml_collections
import optax
from ml_collections import FrozenConfigDict as Config

from nfnets import config as config_lib
from nfnets import parallel
from nfnets.data import stream
from nfnets.data.augment import augment
from nfnets.data.preprocessing import Preprocessing
from nfnets.data.source import Source, load_source
from nfnets.evaluate import Results, Variables, evaluate, make_eval_step
from nfnets.models.convolution import only_xla
from nfnets.models.groups import layer_groups
from nfnets.models.networks import NETWORKS, init_variables, make_network, variable_shapes
from nfnets.models.stacks import NO_STACKS, Stacks, is_stacked, stack, stacks_of_alike
from nfnets.optim.freeze import all_but, frozen_by
from nfnets.optim.optimizer import make_optimizer, warmup_cosine
from nfnets.train_state import TrainState, init_train_state
from nfnets.train_step import Augment, TrainStep, make_train_step


def source(config: ml_collections.ConfigDict, split: str) -> Source:
    """The examples of one split; the config need not be complete."""
    return load_source(config.data.source, name=config.data.name, directory=config.data.dir, split=split)


def network(config: Config) -> hk.TransformedWithState:
    """The network: apply takes (params, network_state, key, images [N, H, W, 3], is_training).

    What init gives is never stacked; apply takes parameters stacked or not.
    """
    model = config.model
    repeat = {'remat': model.remat} if NETWORKS[model.name].can_repeat else {}
    return make_network(
        model.name,
        model.num_classes,
        config_lib.make_variant(config),
        stochastic_depth_rate=model.stochastic_depth_rate,
        activation=model.activation,
        **repeat,
    )


@functools.cache
def stacks(config: Config) -> Stacks:
    """The blocks whose parameters are stacked in training: those that are alike, and treated alike."""
    if not config.model.scan:
        return NO_STACKS
    shapes, _ = variable_shapes(network(config))
    treatments = frozen_by(config.optimizer.freeze), all_but(config.optimizer.agc_skip)
    return stacks_of_alike(shapes, config.model.depths, treatments)


def schedule(config: Config) -> optax.Schedule:
    """The learning rate by the number of updates done."""
    settings = config.optimizer
    return warmup_cosine(settings.learning_rate, settings.warmup_steps, config.train.steps)


def optimizer(config: Config) -> optax.GradientTransformation:
    """The paper's chain, for parameters stacked as `stacks` says."""
    return make_optimizer(
        schedule(config),
        momentum=config.optimizer.momentum,
        weight_decay=config.optimizer.weight_decay,
        agc_clipping=config.optimizer.agc_clipping,
        agc_eps=config.optimizer.agc_eps,
        is_frozen=frozen_by(config.optimizer.freeze),
        group_of=functools.partial(layer_groups, depths=config.model.depths),
        is_stacked=functools.partial(is_stacked, stacks=stacks(config)),
        is_clipped=all_but(config.optimizer.agc_skip),
        max_grad_norm=config.optimizer.max_grad_norm,
        lars_trust=config.optimizer.lars_trust,
    )


def augmentation(config: Config) -> Augment:
    """What a device does to images before the network sees them."""
    settings = config.augment
    return functools.partial(
        augment,
        partners=settings.partners,
        mixup_alpha=settings.mixup_alpha,
        cutmix=settings.cutmix,
        randaugment_layers=settings.randaugment_layers,
        randaugment_magnitude=settings.randaugment_magnitude,
    )


def train_step(config: Config, devices: Sequence[jax.Device] | None = None) -> TrainStep:
    """The parallel training step, on all devices there are or on, or for, those given."""
    return make_train_step(
        network(config),
        optimizer(config),
        augmentation(config),
        num_classes=config.model.num_classes,
        label_smoothing=config.train.label_smoothing,
        precision=config.train.precision,
        ema_decay=config.optimizer.ema_decay,
        sam_rho=config.sam.rho,
        sam_ascent_fraction=config.sam.ascent_fraction,
        accumulate_steps=config.train.accumulate_steps,
        is_frozen=frozen_by(config.optimizer.freeze),
        stacks=stacks(config),
        devices=devices,
    )


def new_state(config: Config) -> TrainState:
    """The state before the first step, of one key, whichever it is: to trace, or to time a step with."""
    params, network_state = init_variables(network(config), jax.random.key(0))
    return init_train_state(stack(params, stacks(config)), optimizer(config), network_state)


def lower_train_step(config: Config, devices: Sequence[jax.Device] | None = None) -> jax.stages.Lowered:
    """The training step, traced from shapes: nothing is computed or allocated.

    Args:
      config: a complete one.
      devices: to compile it for, which need not be here; None: all there are.
    """
    devices = jax.devices() if devices is None else devices
    size = config.data.train_size
    shares = len(devices), config.train.batch_size // len(devices) * images_per_example(config)
    batch = {
        'images': jax.ShapeDtypeStruct((*shares, size, size, 3), jnp.uint8),
        'labels': jax.ShapeDtypeStruct(shares, jnp.int32),
    }
    state = jax.eval_shape(functools.partial(new_state, config))
    key = jax.eval_shape(lambda: jax.random.key(0))
    is_here = devices[0].platform == jax.default_backend()
    with contextlib.nullcontext() if is_here else only_xla():
        return train_step(config, devices).lower(state, batch, key)  # type: ignore[attr-defined]


def images_per_example(config: Config) -> int:
    """Images that are read for each that is trained on."""
    mixes = config.augment.mixup_alpha > 0 or config.augment.cutmix
    return 2 if mixes and config.augment.partners == 'fresh' else 1


def train_batches(config: Config, examples: Source, position: int) -> stream.TrainBatches:
    """This process's part of the training stream, from a position on."""
    return stream.train_batches(
        examples,
        seed=config.seed,
        position=position,
        batch_size=config.train.batch_size * images_per_example(config),
        image_size=config.data.train_size,
        margin=config.data.eval_margin,
        crop_area=config.data.crop_area,
        flip=config.data.flip,
        skip_broken=config.data.skip_broken,
        process_index=jax.process_index(),
        process_count=jax.process_count(),
    )


def preprocessing(config: Config) -> Preprocessing:
    """Of images in evaluation."""
    return Preprocessing(config.data.eval_size, config.data.eval_margin, config.data.eval_style)


def eval_batches(config: Config, examples: Source) -> stream.EvalBatches:
    """This process's part of one pass over the examples."""
    return stream.eval_batches(
        examples,
        batch_size=config.eval.batch_size,
        preprocessing=preprocessing(config),
        skip_broken=config.data.skip_broken,
        process_index=jax.process_index(),
        process_count=jax.process_count(),
    )


def evaluation(
    config: Config, examples: Source, watch: Callable[[stream.EvalBatches], Iterable[stream.Batch]] = iter
) -> Callable[[Mapping[str, Variables]], Results]:
    """Evaluates sets of variables by name over all of the examples; `watch` hands the batches through."""
    eval_step = make_eval_step(network(config))

    def run(variables_by_name: Mapping[str, Variables]) -> Results:
        batches = eval_batches(config, examples)

        def expected_examples() -> int:
            return len(examples) - parallel.sum_over_processes(batches.skipped)

        return evaluate(eval_step, variables_by_name, watch(batches), expected_examples)

    return run
