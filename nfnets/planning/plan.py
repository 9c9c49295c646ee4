"""Plan of a training run, before anything is rented: memory, time, reads, cores for the input."""

import dataclasses
import sys
from typing import Any

import jax
import ml_collections

from nfnets import build
from nfnets import config as config_lib
from nfnets.data.augment import PARTNERS, Augmentation
from nfnets.data.imagenet import NUM_CLASSES, NUM_TRAIN_IMAGES
from nfnets.models.networks import NETWORKS
from nfnets.models.variants import RECIPES
from nfnets.planning import compiler, memory
from nfnets.planning.core_rate import core_rate
from nfnets.planning.pace import estimated_time, pace, step_times
from nfnets.planning.recipe import imagenet_config
from nfnets.planning.tpus import Slice, get_slice


@dataclasses.dataclass(frozen=True)
class Question:
    """A training run to plan.

    Attributes:
      variant: one of `NORMALIZER_FREE`.
      device: kind of TPU, one of `DEVICES`.
      devices: how many, as JAX counts them.
      batch: images of a step, over all devices.
      accumulate: train.accumulate_steps.
      sam: with the paper's sharpness-aware gradient.
      step_ms: time of a step; None: estimated from the published ones.
      core_rate: images/s that one core decodes; None: measured here.
      config: the whole recipe, of which variant, batch, accumulate and sam are; None: ImageNet's.
      examples: images there are to train on.
      classes: of these.
    """

    variant: str
    device: str
    devices: int
    batch: int = 4096
    accumulate: int = 1
    sam: bool = False
    step_ms: float | None = None
    core_rate: float | None = None
    config: ml_collections.ConfigDict | None = None
    examples: int = NUM_TRAIN_IMAGES
    classes: int = NUM_CLASSES


def plan(question: Question) -> dict[str, Any]:
    """Everything that is known of the run; says on stderr what it is about to compile.

    Returns:
      A JSON object: of the question `variant`, `batch` (images of a step), `accumulate`, `sam`, `devices`
      (how many), `examples` and `classes`; of the slice `device` (the fields of `Device`), `hosts` (how
      many) and `accelerator_type`; of the config `scan`, `shard_optimizer`, `image_size` (px), `epochs`,
      `steps` and `repeats` (crops of each image in a batch); `images_per_device`; `steps_per_epoch` (one
      crop of each image); `core_rate` (images/s that a core decodes) and `core_rate_is_measured` (here, not
      given); `paces`, {how the time of a step is known: the fields of `Pace`}; `memory`, the fields of
      `compiler.Answer` by 'without_remat' and, where there is remat, 'with_remat'.

    Raises:
      InputError: there is no such variant or device, or the batch does not divide.
    """
    devices = get_slice(question.device, question.devices)
    config = _config(question, question.batch, question.devices, remat=False)
    images = question.batch // question.devices
    if question.core_rate is None:
        _say('measuring how many images one core of this machine reads and decodes: seconds')
    rate = question.core_rate or core_rate(_recipe(question))
    answers = _memory(question, devices)
    if question.step_ms is None:
        cycles = [answer['cycles'] for answer in answers.values() if answer['fits']]
        times = step_times(question.variant, devices.device, images, sam=question.sam)
        times = {**(times if _is_published(config) else {}), **estimated_time(devices.device, cycles)}
    else:
        times = {'given': question.step_ms}
    decoded = PARTNERS if config_lib.from_settings(Augmentation, config.augment).mixes else {'none': 1}
    run = {'steps': config.train.steps, 'batch_size': question.batch, 'hosts': devices.hosts}
    run['decoded'] = decoded
    return {
        **{name: getattr(question, name) for name in ('variant', 'batch', 'accumulate', 'sam', 'devices')},
        'device': dataclasses.asdict(devices.device),
        'hosts': devices.hosts,
        'accelerator_type': devices.accelerator_type,
        'images_per_device': images,
        'scan': config.model.scan,
        'shard_optimizer': config.train.shard_optimizer,
        'image_size': config.data.train_size,
        'epochs': config.train.epochs,
        'examples': question.examples,
        'classes': question.classes,
        'repeats': config.data.repeats,
        'steps_per_epoch': question.examples / question.batch,
        'steps': config.train.steps,
        'core_rate': rate,
        'core_rate_is_measured': question.core_rate is None,
        'paces': {name: pace(step_ms, **run, core_rate=rate)._asdict() for name, step_ms in times.items()},
        'memory': answers,
    }


def _is_published(config: ml_collections.FrozenConfigDict) -> bool:
    """Whether a published time of its variant is one of what the config trains."""
    has_its_size = config.data.train_size == RECIPES[config.model.variant].train_size
    return config.task == 'classification' and has_its_size and config_lib.is_its_variant(config)


def _recipe(question: Question) -> ml_collections.ConfigDict:
    if question.config is None:
        return imagenet_config(question.variant, sam=question.sam)
    return ml_collections.ConfigDict(question.config)


def _config(
    question: Question, batch_size: int, num_devices: int, remat: bool
) -> ml_collections.FrozenConfigDict:
    """The config for the variant, checked and complete."""
    config = _recipe(question)
    config.train.batch_size = batch_size
    config.train.accumulate_steps = question.accumulate
    config.model.scan, config.model.remat = NETWORKS[config.model.name].can_scan, remat
    # It doubles the time to compile, and its memory is free again before the network needs the most.
    config.augment.randaugment_layers = 0
    config_lib.check(config)
    return config_lib.complete(
        config, num_examples=question.examples, num_classes=question.classes, num_devices=num_devices
    )


def _memory(question: Question, devices: Slice) -> dict[str, Any]:
    """The compiler's answer, 'without_remat' and, where there is remat, 'with_remat', of a step on one host.

    Without XLA's TPU compiler it is that of a step on a CPU.
    """
    tpus = compiler.tpu_devices(devices.device)
    lowered_for = jax.devices()[:1] if tpus is None else tpus
    batch_size = question.batch // devices.num_devices * len(lowered_for)
    can_remat = NETWORKS[_recipe(question).model.name].can_scan
    answers = {}
    for name, remat in {'without_remat': False, **({'with_remat': True} if can_remat else {})}.items():
        platform = 'CPU' if tpus is None else 'TPU'
        _say(f'compiling the training step {name.replace("_", " ")} by XLA for {platform}: minutes')
        config = _config(question, batch_size, len(lowered_for), remat)
        lowered = build.lower_train_step(config, lowered_for)
        answer = compiler.ask(lowered, devices.device, for_tpu=tpus is not None)
        if config.train.shard_optimizer:
            answer = _sharded(answer, config, len(lowered_for), devices)
        answers[name] = answer._asdict()
    return answers


def _sharded(
    answer: compiler.Answer, config: ml_collections.FrozenConfigDict, compiled_for: int, devices: Slice
) -> compiler.Answer:
    """An answer for fewer devices than momentum and EMA will be sharded over: these are less on each."""
    if answer.gib is None:
        return answer
    params, _ = build.variable_shapes(config)
    then, now = (memory.row_bytes(params, number) for number in (devices.num_devices, compiled_for))
    gib = answer.gib + 2 * (then - now) / 2**30
    fits = answer.fits
    if not fits and gib <= devices.device.memory_gib:
        fits = True if fits is None else None  # What XLA would say then of what it refused is not known.
    return answer._replace(gib=gib, fits=fits)


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
