"""Images as the network sees them in training, and images that a page holds in itself."""

import base64
import functools
import io
from typing import NamedTuple

import jax
import ml_collections
import numpy as np
from PIL import Image

from nfnets import build
from nfnets.data.augment import augment, denormalize
from nfnets.data.source import Source
from nfnets.losses import soft_targets
from nfnets.tasks import classification
from nfnets.train_step import run_keys, step_keys

_MOST_IN_BATCH = 64  # On one device; more would only take time.
_MOST_PIXELS = 128  # Side of an image in the page.
_LOSSLESS = 64  # Up to this side a PNG is small.


class TrainingImage(NamedTuple):
    """An image as the network sees it.

    Attributes:
      pixels: uint8 [H, W, 3].
      labels: {label: weight} in the target, the largest weight first.
    """

    pixels: np.ndarray
    labels: dict[int, float]


def training_images(
    config: ml_collections.FrozenConfigDict, source: Source, most: int
) -> tuple[list[TrainingImage], int]:
    """Augmented images of the first device in the first step, evenly spaced over its part of the batch.

    With the run's own number of devices, which its config does not have, and up to 64 images on each, these
    are the very images of the run. MixUp and CutMix have half of a device's part each.

    Args:
      config: of the run, complete.
      source: its training split.
      most: how many images.

    Returns:
      The images, and how many the device is taken to have.

    Raises:
      InputError: an image cannot be decoded.
    """
    repeats = config.data.repeats
    count = max(2, min(config.train.batch_size // jax.device_count(), _MOST_IN_BATCH) // repeats) * repeats
    own = ml_collections.ConfigDict(config)
    own.train.batch_size = count
    batches = build.train_batches(ml_collections.FrozenConfigDict(own), source, 0, num_devices=1)
    try:
        batch = next(batches)
    finally:
        batches.close()
    augment_key, _ = step_keys(run_keys(config.seed)[1], step=0, device=0)
    augment_fn = functools.partial(augment, classification.augmentation(config))
    seen = jax.jit(augment_fn)(augment_key, batch['images'], batch['labels'])
    pixels = to_bytes(denormalize(seen.images))
    targets = soft_targets(
        seen.labels,
        seen.mix_labels,
        seen.ratio,
        num_classes=config.model.num_classes,
        label_smoothing=0.0,
        loss=classification.loss(config),
    )
    chosen = spaced(count, most)
    return [TrainingImage(pixels[i], _weights(np.asarray(targets[i]))) for i in chosen], count


def _weights(target: np.ndarray) -> dict[int, float]:
    found = np.flatnonzero(target)
    return {int(k): float(target[k]) for k in found[np.argsort(-target[found], kind='stable')]}


def spaced(count: int, most: int) -> np.ndarray:
    """Indices of so many of `count` things at most, evenly spaced."""
    return np.linspace(0, count - 1, min(count, most)).round().astype(int)


def to_bytes(pixels: jax.Array | np.ndarray) -> np.ndarray:
    """Pixels 0..255 of any type, rounded: uint8."""
    return np.clip(np.rint(np.asarray(pixels)), 0, 255).astype(np.uint8)


def data_uri(pixels: np.ndarray, most: int = _MOST_PIXELS) -> str:
    """An image uint8 [H, W, 3] for an `img` element: as it is if it is small, else reduced, and as a JPEG.

    Args:
      pixels: of the image.
      most: the longer side of what is kept, px.
    """
    image = Image.fromarray(pixels)
    is_small = max(image.size) <= _LOSSLESS
    image.thumbnail((most, most))
    file = io.BytesIO()
    image.save(file, 'PNG' if is_small else 'JPEG', optimize=True, quality=85)
    kind = 'png' if is_small else 'jpeg'
    return f'data:image/{kind};base64,{base64.b64encode(file.getvalue()).decode()}'
