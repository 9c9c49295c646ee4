"""Turns the config as given into the config as run: checked, complete, frozen.

Called once, after the command line is read and the data is found. Models, losses, optimizer, data, detection,
evaluation and the training step take no config, but plain arguments from `nfnets/build.py` and the tasks.
"""

import dataclasses
import functools
import math
import re
from collections.abc import Callable
from typing import Any, TypeVar

import ml_collections

from nfnets.config_rules import MIXTURE_FIELDS, NOT_USED, POSITIVE, RULES
from nfnets.data.augment import Augmentation
from nfnets.data.preprocessing import default_preprocessing
from nfnets.detection.anchors import LEVELS, check_side
from nfnets.errors import InputError
from nfnets.models.networks import NETWORKS
from nfnets.models.variants import RECIPES, Recipe, Variant, get_variant

_EVAL_BATCH_PER_DEVICE = 32
_STAGES = len(LEVELS) - 1  # Of a network under a feature pyramid, which adds the coarsest level.
_T = TypeVar('_T')


def check(config: ml_collections.ConfigDict) -> None:
    """Checks each setting that has a value, and those that must fit each other.

    Raises:
      InputError: names the setting, its value and what is allowed.
    """
    for key, (is_allowed, allowed) in RULES.items():
        value = get(config, key)
        if value is not None and not is_allowed(value):
            raise InputError(f'{key}={value} is not allowed: it must be {allowed}')
    _check_task(config)
    if config.probe.source == 'tfds' and config.probe.name is None:
        raise InputError("probe.source='tfds' needs probe.name, a TensorFlow data set")
    _check_mixture(config.task, config.data.mixture)
    variant, kind = make_variant(config), NETWORKS[config.model.name]
    if len(variant.widths) != len(variant.depths):
        raise InputError(
            f'model.widths={variant.widths} and model.depths={variant.depths} must name the same '
            'number of stages'
        )
    least = math.ceil((variant.group_width or 1) / (variant.bottleneck_ratio or kind.bottleneck_ratio))
    if min(variant.widths) < least:
        raise InputError(
            f'model.widths={variant.widths} must be {least} or more each, with model.group_width='
            f'{variant.group_width}'
        )
    if (config.model.scan or config.model.remat) and not kind.can_scan:
        key = 'scan' if config.model.scan else 'remat'
        raise InputError(f'model.{key}=True is not allowed with model.name={config.model.name}')
    if config.model.scan and config.optimizer.lars_trust > 0:
        raise InputError(
            f'model.scan=True is not allowed with optimizer.lars_trust={config.optimizer.lars_trust}: LARS '
            'takes the norm of each block'
        )


def _check_task(config: ml_collections.ConfigDict) -> None:
    for key, value in NOT_USED[config.task].items():
        given = get(config, key)
        if given != value:
            raise InputError(f'{key}={given} has no effect with task={config.task}: it must be {value}')
    detects = config.task == 'detection'
    if (config.data.source == 'coco') != detects:
        raise InputError(
            f'task={config.task} is not allowed with data.source={config.data.source}: task=detection goes '
            'with data.source=coco, and with no other'
        )
    depths = make_variant(config).depths
    if detects and len(depths) != _STAGES:
        raise InputError(f'task=detection needs a network of {_STAGES} stages, and model.depths={depths}')


def _check_squares(config: ml_collections.ConfigDict) -> None:
    """That a feature pyramid fits the images, whose sizes are known."""
    for key in ('data.train_size', 'data.eval_size') if config.task == 'detection' else ():
        check_side(key, get(config, key))


def _check_mixture(task: str, sources: ml_collections.ConfigDict) -> None:
    if sources and task != 'classification':
        raise InputError(f'data.mixture has no effect with task={task}: train on one source')
    known = ', '.join(MIXTURE_FIELDS)
    for name, fields in sources.items():
        key = f'data.mixture.{name}'
        if not re.fullmatch(r'[\w-]+', name):
            raise InputError(f'{key}: the name of a source must be of letters, digits, _ and -')
        if not isinstance(fields, ml_collections.ConfigDict):
            raise InputError(f'{key}={fields} is not allowed: it must be a dictionary of {known}')
        if unknown := sorted(set(fields) - set(MIXTURE_FIELDS)):
            raise InputError(f'{key}.{unknown[0]}: there is no such setting; a source has {known}')
        weight = fields.get('weight')
        if weight is not None and not (isinstance(weight, int | float) and 0 < weight < math.inf):
            raise InputError(f'{key}.weight={weight} is not allowed: it must be {POSITIVE[1]}')
    weighed = {name: fields.get('weight') is not None for name, fields in sources.items()}
    if len(set(weighed.values())) > 1:
        without = next(name for name, has_weight in weighed.items() if not has_weight)
        raise InputError(f'data.mixture.{without}.weight is missing: all sources have a weight, or none')


def mixture(config: ml_collections.ConfigDict) -> dict[str, dict[str, Any]]:
    """The sources of `data.mixture` by name, in their order, with every field."""
    data = config.data
    of_data = {'source': data.source, 'name': data.name, 'dir': data.dir, 'split': data.train_split}
    found = {}
    for name in sorted(data.mixture):
        own = {field: value for field, value in data.mixture[name].items() if value is not None}
        found[name] = {**of_data, 'weight': None, **own}
    return found


def make_variant(config: ml_collections.ConfigDict) -> Variant:
    """The architecture: the variant that the config names, but for what the config gives explicitly.

    Raises:
      InputError: there is no such variant.
    """
    return _replace_given(_named_variant(config), config.model)


def make_recipe(config: ml_collections.ConfigDict) -> Recipe:
    """The recipe of the variant that the config names, but for what the config gives explicitly."""
    groups = (config.model, config.data, config.augment)
    return functools.reduce(_replace_given, groups, RECIPES[config.model.variant])


def _named_variant(config: ml_collections.ConfigDict) -> Variant:
    try:
        return get_variant(config.model.variant, NETWORKS[config.model.name].variants)
    except InputError as error:
        raise InputError(f'model.variant={config.model.variant}: {error}') from error


def _replace_given(kind: _T, settings: ml_collections.ConfigDict) -> _T:
    """A dataclass with those fields replaced that settings of the same name give."""
    names = [field.name for field in dataclasses.fields(kind) if settings.get(field.name) is not None]  # type: ignore[arg-type]
    return dataclasses.replace(kind, **{name: settings[name] for name in names})  # type: ignore[type-var]


def network_name(config: ml_collections.ConfigDict) -> str:
    """The name of a network for messages: its variant's only if it has the variant's stages and blocks."""
    own = make_variant(config)
    if is_its_variant(config):
        return f'{config.model.name} {config.model.variant}'
    stages = ', '.join(f'{depth} x {width}' for depth, width in zip(own.depths, own.widths, strict=True))
    return f'{config.model.name} of {stages}'


def is_its_variant(config: ml_collections.ConfigDict) -> bool:
    """Whether a network has the stages and blocks of the variant that the config names."""
    own, named = make_variant(config), _named_variant(config)
    return dataclasses.replace(own, activation=named.activation) == named


def complete(
    config: ml_collections.ConfigDict, *, num_examples: int | None, num_classes: int, num_devices: int
) -> ml_collections.FrozenConfigDict:
    """Derives every setting that is None and freezes the config.

    Args:
      config: one that `check` accepts.
      num_examples: in the training split; None if nothing is to be trained.
      num_classes: in the data.
      num_devices: over all processes.

    Returns:
      The config without a None, but for what is optional, and what only training needs if there is none.

    Raises:
      InputError: a batch does not divide by the devices or into the parts asked for, the data has more
        classes than the network, or the warm-up is longer than the run.
    """
    config = ml_collections.ConfigDict(config)
    with config.unlocked():
        config.data.mixture = mixture(config)
    _derive_model(config, num_classes)
    _check_squares(config)
    if config.eval.batch_size is None:
        config.eval.batch_size = _EVAL_BATCH_PER_DEVICE * num_devices
    _check_divides(config, 'eval.batch_size', num_devices)
    if num_examples is not None:
        _check_training_batch(config, num_devices)
        _derive_lengths(config, num_examples)
    return ml_collections.FrozenConfigDict(config)


def _derive_lengths(config: ml_collections.ConfigDict, num_examples: int) -> None:
    steps_per_epoch = num_examples / config.train.batch_size
    warmup = 'warmup_epochs' if config.optimizer.warmup_steps is None else 'warmup_steps'
    if config.train.steps is None:
        config.train.steps = max(1, int(config.train.epochs * steps_per_epoch))
    else:
        config.train.epochs = config.train.steps / steps_per_epoch
    if config.optimizer.warmup_steps is None:
        config.optimizer.warmup_steps = config.optimizer.warmup_epochs * steps_per_epoch
    else:
        config.optimizer.warmup_epochs = config.optimizer.warmup_steps / steps_per_epoch
    if config.optimizer.warmup_steps >= config.train.steps:
        raise InputError(
            f'optimizer.{warmup}={config.optimizer[warmup]:g} is '
            f'{config.optimizer.warmup_steps:g} steps here, and the run has train.steps='
            f'{config.train.steps}: the warm-up must be shorter than the run'
        )
    if config.optimizer.learning_rate is None:
        rate = config.optimizer.learning_rate_per_256 * config.train.batch_size / 256
        config.optimizer.learning_rate = rate
    if config.eval.every_steps is None:
        config.eval.every_steps = max(1, round(config.eval.every_epochs * steps_per_epoch))


def _derive_model(config: ml_collections.ConfigDict, num_classes: int) -> None:
    derived = {**dataclasses.asdict(make_variant(config)), **dataclasses.asdict(make_recipe(config))}
    for group in (config.model, config.data, config.augment):
        group.update({name: value for name, value in derived.items() if name in group})
    if config.model.activation is None:
        config.model.activation = NETWORKS[config.model.name].activation
    if config.data.eval_margin is None:
        recipe, data = RECIPES[config.model.variant], config.data
        data.eval_margin = default_preprocessing(recipe, data.eval_size, data.eval_style).margin
    if config.model.num_classes is None:
        config.model.num_classes = num_classes
    if config.model.num_classes < num_classes:
        raise InputError(
            f'model.num_classes={config.model.num_classes}, but the data has labels 0 to '
            f'{num_classes - 1}: it must be {num_classes} or more'
        )


def _check_divides(config: ml_collections.ConfigDict, key: str, num_devices: int) -> None:
    size = get(config, key)
    if size % num_devices:
        below = size // num_devices * num_devices
        nearest = ' or '.join(str(n) for n in (below, below + num_devices) if n)
        raise InputError(f'{key}={size} does not divide by the {num_devices} devices; nearest: {nearest}')


def _check_training_batch(config: ml_collections.ConfigDict, num_devices: int) -> None:
    _check_divides(config, 'train.batch_size', num_devices)
    per_device = config.train.batch_size // num_devices
    augmentation = Augmentation(**config.augment)
    for key in ('train.accumulate_steps', 'data.repeats'):
        if per_device % get(config, key):
            divisors = (str(n) for n in range(1, per_device + 1) if per_device % n == 0)
            raise InputError(
                f'{key}={get(config, key)} does not divide the {per_device} images of each device: it must '
                f'be one of {", ".join(divisors)}'
            )
    is_alone = per_device == config.data.repeats
    if augmentation.mixes and augmentation.images_per_example == 1 and is_alone:
        repeats = f' with data.repeats={per_device}' if per_device > 1 else ''
        raise InputError(
            f"augment.partners='batch' needs 2 images a device to mix, and train.batch_size="
            f"{config.train.batch_size} on {num_devices} devices{repeats} is 1: take more, or 'fresh'"
        )


def from_settings(kind: Callable[..., _T], settings: ml_collections.ConfigDict) -> _T:
    """A dataclass whose fields are called as the settings of a group."""
    return kind(**{field.name: settings[field.name] for field in dataclasses.fields(kind)})  # type: ignore[arg-type]


def get(config: ml_collections.ConfigDict, key: str) -> Any:
    """The value at a dotted key such as 'train.batch_size'."""
    for part in key.split('.'):
        config = config[part]
    return config


def flatten(tree: dict[str, Any], prefix: str = '') -> dict[str, Any]:
    """{'train': {'steps': 3}} -> {'train.steps': 3}; an empty group, as of `data.mixture`, is a value."""
    flat: dict[str, Any] = {}
    for name, value in tree.items():
        if isinstance(value, dict) and value:
            flat.update(flatten(value, f'{prefix}{name}.'))
        else:
            flat[prefix + name] = value
    return flat
