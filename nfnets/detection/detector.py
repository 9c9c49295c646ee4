"""Mask R-CNN as a pair of functions, init and apply, of batches as the host gives them."""

from collections.abc import Callable
from typing import Any, NamedTuple

import haiku as hk
import jax
import jax.numpy as jnp

from nfnets.detection.anchors import STRIDE
from nfnets.detection.mask_rcnn import MaskRCNN, Sizes


class Scenes(NamedTuple):
    """Images of one size with their objects.

    Attributes:
      images: [N, S, S, 3], normalized.
      image_sizes: float32 [N, 2], height and width without padding, px.
      objects: `Objects` [N, G, ...]; None in evaluation.
      masks: uint8 [N, G, M, M], across the objects' boxes; None in evaluation.
    """

    images: jax.Array
    image_sizes: jax.Array
    objects: Any = None
    masks: Any = None


def make_detector(
    make_backbone: Callable[[], Any], num_classes: int, sizes: Sizes
) -> hk.TransformedWithState:
    """The network.

    Args:
      make_backbone: makes a module of `nfnets/models` with four stages.
      num_classes: K.
      sizes: how much of an image is looked at.

    Returns:
      init, and apply(params, network_state, key, scenes, is_training) to the losses by name, in training, or
      else detections with their masks, as of `MaskRCNN`; and the state.
    """

    def forward(scenes: Scenes, is_training: bool) -> Any:
        network = MaskRCNN(make_backbone().grids, num_classes, sizes)
        if is_training:
            images, image_sizes, objects, masks = scenes
            return network.losses(hk.next_rng_key(), images, image_sizes, objects, masks)
        return network.detect(scenes.images, scenes.image_sizes)

    return hk.transform_with_state(forward)


def init_variables(network: hk.TransformedWithState, key: jax.Array) -> tuple[hk.Params, hk.State]:
    """Initial parameters and state; they do not depend on the size of the images."""
    images = jnp.zeros((1, STRIDE, STRIDE, 3), jnp.float32)
    return network.init(key, Scenes(images, jnp.full((1, 2), float(STRIDE))), False)
