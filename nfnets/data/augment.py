"""From decoded images to what the network sees, on the accelerator (arXiv 2102.06171, appendix A.1)."""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp

from nfnets.data.mixing import mix
from nfnets.data.pixels import pack, unpack
from nfnets.data.randaugment import randaugment

MEAN = (0.485, 0.456, 0.406)  # Of ImageNet's channels, in the range 0..1.
STD = (0.229, 0.224, 0.225)
# Where MixUp and CutMix take the second image of a pair, with the images that are read for each example: one
# that is decoded for it, or another of the same batch.
PARTNERS = {'fresh': 2, 'batch': 1}


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """Settings of the augmentation of a batch, as in `config.augment`.

    Attributes:
      partners: one of `PARTNERS`.
      mixup_alpha: of MixUp's Beta distribution; 0 for no MixUp.
      cutmix: whether there is CutMix.
      randaugment_layers: operations on each image; 0 for none.
      randaugment_magnitude: 0..30.
    """

    partners: str
    mixup_alpha: float
    cutmix: bool
    randaugment_layers: int
    randaugment_magnitude: int

    @property
    def mixes(self) -> bool:
        """Whether images are mixed in pairs."""
        return self.mixup_alpha > 0 or self.cutmix

    @property
    def images_per_example(self) -> int:
        """Images that are read for each that is trained on."""
        return PARTNERS[self.partners] if self.mixes else 1


class AugmentedBatch(NamedTuple):
    """A batch as the network and the loss take it, whatever the augmentation.

    Attributes:
      images: float32 [N, H, W, 3], normalized.
      labels: int32 [N], or sets of them [N, L].
      mix_labels: alike, of what each was mixed with.
      ratio: float32 [N], weight of `labels`; 1 if not mixed.
    """

    images: jax.Array
    labels: jax.Array
    mix_labels: jax.Array
    ratio: jax.Array


def augment(
    augmentation: Augmentation, key: jax.Array, images: jax.Array, labels: jax.Array
) -> AugmentedBatch:
    """Mixes pairs, applies RandAugment, normalizes.

    Args:
      augmentation: what to do.
      key: random.
      images: uint8 [M, H, W, 3], decoded, cropped and flipped. With fresh partners M = 2 N, and the partner
        of an image is the one N places on; else M = N, and it is the one before.
      labels: int32 [M], or sets of them [M, L].

    Returns:
      The batch of N.
    """
    mix_key, randaugment_key = jax.random.split(key)
    if not augmentation.mixes:
        partner_images, partner_labels = images, labels
    elif augmentation.partners == 'fresh':
        images, partner_images = jnp.split(images, 2)
        labels, partner_labels = jnp.split(labels, 2)
    else:
        partner_images, partner_labels = jnp.roll(images, 1, axis=0), jnp.roll(labels, 1, axis=0)
    mixed = mix(
        mix_key,
        images,
        labels,
        partner_images,
        partner_labels,
        mixup_alpha=augmentation.mixup_alpha,
        cutmix=augmentation.cutmix,
    )
    images = mixed.images
    if augmentation.randaugment_layers:
        pixels = randaugment(
            randaugment_key,
            pack(jnp.clip(images, 0.0, 255.0)),
            layers=augmentation.randaugment_layers,
            magnitude=augmentation.randaugment_magnitude,
        )
        images = unpack(pixels)
    return AugmentedBatch(normalize(images), mixed.labels, mixed.mix_labels, mixed.ratio)


def normalize(images: jax.Array) -> jax.Array:
    """(images - mean) / std of ImageNet's channels: [N, H, W, 3], uint8 or float in 0..255, to float32."""
    return (images.astype(jnp.float32) - _of_channels(MEAN)) / _of_channels(STD)


def denormalize(images: jax.Array) -> jax.Array:
    """The inverse of `normalize`: float32 [N, H, W, 3] in 0..255."""
    return images * _of_channels(STD) + _of_channels(MEAN)


def _of_channels(values: tuple[float, float, float]) -> jax.Array:
    return 255.0 * jnp.asarray(values)[None, None, None, :]
