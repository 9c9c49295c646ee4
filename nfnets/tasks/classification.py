"""Classification: the label of an image, or a set of them."""

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence

import haiku as hk
import jax
import jax.numpy as jnp
import ml_collections
from ml_collections import FrozenConfigDict as Config

from nfnets import config as config_lib
from nfnets import finetune, parallel
from nfnets.data import stream
from nfnets.data.augment import Augmentation
from nfnets.data.augment import augment as augment_batch
from nfnets.data.decode import TrainCrop
from nfnets.data.load import load_source
from nfnets.data.mixture import Mixture
from nfnets.data.preprocessing import Preprocessing
from nfnets.data.source import Source
from nfnets.errors import InputError, TrainingStopped
from nfnets.evaluation.evaluate import Look, Results, Variables, evaluate, make_eval_step
from nfnets.evaluation.probe import Probe, make_feature_step
from nfnets.evaluation.summary import summary as summary
from nfnets.losses import LOSSES, Loss
from nfnets.models.networks import init_variables, transformed
from nfnets.models.param_layout import ParamLayout
from nfnets.models.param_names import found_by, is_classifier
from nfnets.tasks.classification_loss import make_loss_fn
from nfnets.tasks.module import module
from nfnets.train_step import Augment, LossFn
from nfnets.weights.load import Weights


def source(config: ml_collections.ConfigDict, split: str) -> Source:
    """The examples of one split; the config need not be complete."""
    return load_source(config.data.source, name=config.data.name, directory=config.data.dir, split=split)


def mixture(config: ml_collections.ConfigDict) -> Mixture:
    """The sources of `data.mixture` together; the config need not be complete.

    Raises:
      InputError: data cannot be used, or sources not together.
      TrainingStopped: a bucket does not answer now.
    """
    sources, weights = {}, []
    for name, fields in config_lib.mixture(config).items():
        try:
            sources[name] = load_source(
                fields['source'], name=fields['name'], directory=fields['dir'], split=fields['split']
            )
        except (InputError, TrainingStopped) as error:
            raise type(error)(f'data.mixture.{name}: {error}') from error
        weights.append(fields['weight'])
    return Mixture(sources, None if None in weights else weights)


def train_batches(config: Config, examples: Source, position: int, num_devices: int) -> stream.TrainBatches:
    """This process's part of the training stream, from a data position on.

    Args:
      config: a complete one.
      examples: the training split.
      position: data position of the whole run, images.
      num_devices: that share a batch, over all hosts.
    """
    data = config.data
    per_device = config.train.batch_size // num_devices
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


def left_out(batches: stream.TrainBatches) -> dict[str, tuple[int, str]]:
    """Broken images."""
    return {'skipped_images': (batches.skipped, 'broken images skipped')}


def batch_shapes(config: Config, count: int) -> dict[str, jax.ShapeDtypeStruct]:
    """Shapes and dtypes of 'images' and 'labels' of a device's part of a batch, with those that are mixed in.

    Args:
      config: a complete one.
      count: images that the device trains on.
    """
    size, read = config.data.train_size, count * augmentation(config).images_per_example
    return {
        'images': jax.ShapeDtypeStruct((read, size, size, 3), jnp.uint8),
        'labels': jax.ShapeDtypeStruct((read,), jnp.int32),
    }


def augmentation(config: Config) -> Augmentation:
    """The augmentation of a device's images before the network sees them."""
    return config_lib.from_settings(Augmentation, config.augment)


def augment(config: Config) -> Augment:
    """(key, images, labels) to an augmented batch."""
    return functools.partial(augment_batch, augmentation(config))


def network(config: Config, layout: ParamLayout) -> hk.TransformedWithState:
    """The network: apply takes (params, network_state, key, images [N, H, W, 3], is_training)."""
    return transformed(module(config, layout))


def initial_variables(
    config: Config, network: hk.TransformedWithState, key: jax.Array
) -> tuple[hk.Params, hk.State]:
    """Parameters and network state before the first step; the loss may set a bias."""
    params, network_state = init_variables(network, key)
    initial_bias = loss(config).initial_bias
    if initial_bias is not None:
        classifier = next(filter(is_classifier, params))
        bias = jnp.full_like(params[classifier]['b'], initial_bias(config.model.num_classes))
        params = {**params, classifier: {**params[classifier], 'b': bias}}
    return params, network_state


def start_from(
    config: Config, weights: Weights, params: hk.Params, class_names: Sequence[str]
) -> tuple[hk.Params, str]:
    """Initial parameters replaced by a checkpoint's, and what was not, for people."""
    kind = {'network': config.model.name, 'activation': config.model.activation}
    return finetune.start_from(weights, params, class_names=class_names, **kind)


def loss(config: Config) -> Loss:
    """What is minimized in training, and reported by evaluation."""
    return LOSSES[config.train.loss]


def loss_fn(config: Config, network: hk.TransformedWithState) -> LossFn:
    """The loss that is differentiated, of augmented batches."""
    return make_loss_fn(
        network,
        num_classes=config.model.num_classes,
        label_smoothing=config.train.label_smoothing,
        precision=config.train.precision,
        is_frozen=found_by(config.optimizer.freeze),
        loss=loss(config),
    )


def preprocessing(config: Config) -> Preprocessing:
    """The resizing and cropping of images in evaluation."""
    return Preprocessing(config.data.eval_size, config.data.eval_margin, config.data.eval_style)


def split_evaluation(
    config: Config,
    examples: Source,
    network: hk.TransformedWithState,
    watch: Callable[[stream.EvalBatches], Iterable[stream.Batch]] = iter,
    *,
    classes: Sequence[int] | None = None,
    look: Look | None = None,
) -> Callable[[Mapping[str, Variables]], Results]:
    """Evaluates sets of variables by name over all of the examples.

    Args:
      config: a complete one.
      examples: the split.
      network: that the variables are of.
      watch: hands the batches through.
      classes: labels whose logits are kept; None: all.
      look: called with the predictions for each batch (`Predicted`).
    """
    eval_step = make_eval_step(network, classes, predicts=look is not None, loss=loss(config))
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


def probe(config: Config, network: hk.TransformedWithState) -> Callable[[Variables], Results]:
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
        step = make_feature_step(network)
        run = Probe(step, batches, train, evaluation, shots=settings.shots, linear=settings.linear)
    except InputError as error:
        raise InputError(f'the data of the probe: {error}') from error
    return lambda variables: {'probe': run(variables)}


def evaluation(
    config: Config, examples: Source, network: hk.TransformedWithState
) -> Callable[[Mapping[str, Variables]], Results]:
    """Accuracies and losses over the examples, and of 'eval_ema' the probes.

    Raises:
      InputError: the data of the probes cannot be used.
    """
    on_examples, probes = split_evaluation(config, examples, network), probe(config, network)
    return lambda variables: {**on_examples(variables), **probes(variables['eval_ema'])}


def describe(config: Config) -> str:
    """The name of the network, for people."""
    return config_lib.network_name(config)
