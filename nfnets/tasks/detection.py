"""Detection: the class, the box and the mask of each object in an image, by Mask R-CNN on any network."""

from collections.abc import Callable, Mapping, Sequence

import haiku as hk
import jax
import jax.numpy as jnp
import ml_collections
from ml_collections import FrozenConfigDict as Config

from nfnets import config as config_lib
from nfnets.data.augment import normalize
from nfnets.detection import batches as batches_lib
from nfnets.detection import detector
from nfnets.detection.detector import Scenes, make_detector
from nfnets.detection.examples import CocoExamples
from nfnets.detection.heads import MASK_SIDE
from nfnets.detection.mask_rcnn import Sizes
from nfnets.detection.targets import Objects
from nfnets.errors import InputError
from nfnets.evaluation import detect
from nfnets.evaluation.detect import summary as summary
from nfnets.evaluation.evaluate import Results, Variables
from nfnets.models.param_layout import ParamLayout
from nfnets.models.param_names import found_by
from nfnets.tasks import detection_start
from nfnets.tasks.detection_loss import make_loss_fn
from nfnets.tasks.module import module
from nfnets.train_step import Augment, LossFn
from nfnets.weights.load import Weights

_MASK_SIDE = 2 * MASK_SIDE  # Of an object's mask on its way to the device: twice that of what is learned.


def source(config: ml_collections.ConfigDict, split: str) -> CocoExamples:
    """The examples of one split; the config need not be complete."""
    if config.data.dir is None:
        raise InputError("data.source='coco' needs data.dir, the folder of annotations/ and the images")
    return CocoExamples(config.data.dir, split)


def train_batches(
    config: Config, examples: CocoExamples, position: int, num_devices: int
) -> batches_lib.TrainBatches:
    """This process's part of the training stream, from a data position on.

    Args:
      config: a complete one.
      examples: the training split.
      position: data position of the whole run, images.
      num_devices: that share a batch, over all hosts.
    """
    del num_devices
    return batches_lib.train_batches(
        examples,
        size=config.data.train_size,
        scales=config.detection.scales,
        flip=config.data.flip,
        most_objects=config.detection.most_objects,
        mask_side=_MASK_SIDE,
        seed=config.seed,
        position=position,
        batch_size=config.train.batch_size,
        skip_broken=config.data.skip_broken,
    )


def left_out(batches: batches_lib.TrainBatches) -> dict[str, tuple[int, str]]:
    """Broken images, and objects that there was no room for."""
    return {
        'skipped_images': (batches.skipped, 'broken images skipped'),
        'dropped_objects': (batches.dropped, 'objects beyond detection.most_objects of an image dropped'),
    }


def batch_shapes(config: Config, count: int) -> dict[str, jax.ShapeDtypeStruct]:
    """Shapes and dtypes of a device's part of a batch, by the names of `TrainBatches`.

    Args:
      config: a complete one.
      count: images that the device trains on.
    """
    size, most = config.data.train_size, config.detection.most_objects
    of_each = {
        'images': ((size, size, 3), jnp.uint8),
        'image_sizes': ((2,), jnp.float32),
        'boxes': ((most, 4), jnp.float32),
        'labels': ((most,), jnp.int32),
        'present': ((most,), jnp.bool_),
        'crowd': ((most,), jnp.bool_),
        'masks': ((most, _MASK_SIDE, _MASK_SIDE), jnp.uint8),
    }
    return {name: jax.ShapeDtypeStruct((count, *shape), dtype) for name, (shape, dtype) in of_each.items()}


def augment(config: Config) -> Augment:
    """(key, arrays of a batch by name) to `Scenes`: the host has placed, and mirrored, the images."""
    del config
    return _scenes


def _scenes(
    key: jax.Array, *, images: jax.Array, image_sizes: jax.Array, masks: jax.Array, **objects: jax.Array
) -> Scenes:
    del key
    return Scenes(normalize(images), image_sizes, Objects(**objects), masks)


def network(config: Config, layout: ParamLayout) -> hk.TransformedWithState:
    """The network: apply takes (params, network_state, key, scenes, is_training), see `make_detector`."""
    sizes = config_lib.from_settings(Sizes, config.detection)
    return make_detector(module(config, layout), config.model.num_classes, sizes)


def initial_variables(
    config: Config, network: hk.TransformedWithState, key: jax.Array
) -> tuple[hk.Params, hk.State]:
    """Parameters and network state before the first step."""
    del config
    return detector.init_variables(network, key)


def start_from(
    config: Config, weights: Weights, params: hk.Params, class_names: Sequence[str]
) -> tuple[hk.Params, str]:
    """Initial parameters with those of a checkpoint among them, and what was taken, for people."""
    weights.check_network(config.model.name, config.model.activation)
    return detection_start.start_from(weights, params, class_names, config.model.depths)


def loss_fn(config: Config, network: hk.TransformedWithState) -> LossFn:
    """The loss that is differentiated, of `Scenes`."""
    is_frozen = found_by(config.optimizer.freeze)
    return make_loss_fn(network, precision=config.train.precision, is_frozen=is_frozen)


def evaluation(
    config: Config, examples: CocoExamples, network: hk.TransformedWithState
) -> Callable[[Mapping[str, Variables]], Results]:
    """Average precision over the examples."""
    step = detect.make_detect_step(network)

    def run(variables_by_name: Mapping[str, Variables]) -> Results:
        batches = batches_lib.eval_batches(
            examples,
            size=config.data.eval_size,
            batch_size=config.eval.batch_size,
            skip_broken=config.data.skip_broken,
        )
        return detect.evaluate(step, variables_by_name, batches, examples, config.data.eval_size)

    return run


def describe(config: Config) -> str:
    """The name of the network, for people."""
    return f'Mask R-CNN on {config_lib.network_name(config)}'
