"""MixUp and CutMix on the accelerator, drawn as in the code released with arXiv 2102.06171.

Sources: MixUp, Zhang et al. 2018, arXiv 1710.09412; CutMix, Yun et al. 2019, arXiv 1905.04899.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp


class Mixed(NamedTuple):
    """Images mixed in pairs.

    Attributes:
      images: float32 [N, H, W, C], in the range of the originals.
      labels: of the first of each pair, as given.
      mix_labels: of the second.
      ratio: float32 [N], weight of the first, 0..1.
    """

    images: jax.Array
    labels: jax.Array
    mix_labels: jax.Array
    ratio: jax.Array


def mix(
    key: jax.Array,
    images: jax.Array,
    labels: jax.Array,
    partner_images: jax.Array,
    partner_labels: jax.Array,
    *,
    mixup_alpha: float,
    cutmix: bool,
) -> Mixed:
    """MixUp on the first half of a batch and CutMix on the second; on all of it if only one is on.

    Args:
      key: random.
      images: [N, H, W, C], any type.
      labels: int [N], or sets of them [N, L].
      partner_images: [N, H, W, C], what each is mixed with.
      partner_labels: alike.
      mixup_alpha: of the Beta(alpha, alpha) that MixUp's ratio is drawn from; 0 for no MixUp.
      cutmix: whether there is CutMix.

    Returns:
      The batch; with neither, the images as they are at ratio 1.
    """
    images, partner_images = images.astype(jnp.float32), partner_images.astype(jnp.float32)
    count, height, width, _ = images.shape
    num_mixup = 0 if not mixup_alpha else count // 2 if cutmix else count
    num_cutmix = count - num_mixup if cutmix else 0
    mixup_key, cutmix_key = jax.random.split(key)
    mixed, ratios = [], []
    if num_mixup:
        ratio = jax.random.beta(mixup_key, mixup_alpha, mixup_alpha, (num_mixup,))
        mixed.append(mixup_images(images[:num_mixup], partner_images[:num_mixup], ratio))
        ratios.append(ratio)
    if num_cutmix:
        mask = sample_cutmix_mask(cutmix_key, num_cutmix, height, width)
        mixed.append(cutmix_images(images[num_mixup:], partner_images[num_mixup:], mask))
        ratios.append(jnp.mean(mask, axis=(1, 2)))
    if not mixed:
        return Mixed(images, labels, labels, jnp.ones(count))
    return Mixed(jnp.concatenate(mixed), labels, partner_labels, jnp.concatenate(ratios))


def mixup_images(images: jax.Array, partners: jax.Array, ratio: jax.Array) -> jax.Array:
    """ratio * images + (1 - ratio) * partners; [N, H, W, C], [N, H, W, C], [N]."""
    ratio = ratio[:, None, None, None]
    return ratio * images + (1.0 - ratio) * partners


def cutmix_images(images: jax.Array, partners: jax.Array, mask: jax.Array) -> jax.Array:
    """images where the mask [N, H, W] is 1, partners where it is 0; [N, H, W, C]."""
    return jnp.where(mask[..., None] > 0, images, partners)


def sample_cutmix_mask(key: jax.Array, count: int, height: int, width: int) -> jax.Array:
    """Masks that are 1 in a box of random center and area, cut off at the edges; float32 [N, H, W]."""
    row_key, column_key, area_key = jax.random.split(key, 3)
    rows = jax.random.randint(row_key, (count,), 0, height)
    columns = jax.random.randint(column_key, (count,), 0, width)
    return cutmix_mask(rows, columns, jax.random.uniform(area_key, (count,)), height, width)


def cutmix_mask(
    rows: jax.Array, columns: jax.Array, outside: jax.Array, height: int, width: int
) -> jax.Array:
    """Masks that are 1 in a box.

    Args:
      rows: int [N], of the center.
      columns: int [N], of the center.
      outside: float [N], fraction of the image outside of the box, before the edges cut it off.
      height: H, px.
      width: W, px.

    Returns:
      float32 [N, H, W]. A box of an odd side is one pixel smaller, as in the released code.
    """

    def inside(center: jax.Array, length: int) -> jax.Array:
        half = (jnp.sqrt(1.0 - outside) * length).astype(jnp.int32) // 2
        place = jnp.arange(length)[None, :]
        return (place >= (center - half)[:, None]) & (place < (center + half)[:, None])

    box = inside(rows, height)[:, :, None] & inside(columns, width)[:, None, :]
    return box.astype(jnp.float32)
