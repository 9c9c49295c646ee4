"""A loader with Pillow, such as PyTorch's users have, for `scripts/benchmark.py input --against pil`.

Each image is decoded whole, cropped at random and resized (bicubic), mirrored, mixed with a partner and given
its operations of RandAugment: the distribution of this project's pipeline, but for details of the operations.
"""

import io
import time
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageEnhance, ImageOps

from nfnets.data.source import Label

_GRAY = (128, 128, 128)
_SIDES = (3 / 4, 4 / 3)  # Least and most ratio of a crop's sides.


class Task(NamedTuple):
    """The work on every image."""

    size: int  # Of the result, px.
    crop_area: tuple[float, float]  # Least and most fraction of an image.
    layers: int  # Operations of RandAugment on each image.
    magnitude: int  # Of them, 0..30.
    mixup_alpha: float  # Of Beta(alpha, alpha).
    partners: str  # 'batch', or 'fresh' for twice as many images, of which the second half are partners.


def load(
    work: tuple[Task, int, list[tuple[bytes, Label]]],
) -> tuple[np.ndarray, np.ndarray, np.ndarray, float]:
    """A mixed batch: images uint8 [N, S, S, 3], labels, weights of the labels, CPU seconds."""
    start = time.process_time()
    task, seed, encoded = work
    rng = np.random.default_rng(seed)
    images = np.stack([_cropped(task, rng, image) for image, _ in encoded])
    labels = np.array([label for _, label in encoded])
    if task.partners == 'fresh':
        images, partners = np.split(images, 2)
    else:
        partners = np.roll(images, 1, axis=0)
    half = len(images) // 2
    ratio = rng.beta(task.mixup_alpha, task.mixup_alpha, half).astype(np.float32)[:, None, None, None]
    images[:half] = np.rint(ratio * images[:half] + (1 - ratio) * partners[:half])
    weights = np.concatenate([ratio.ravel(), _cut_and_paste(images[half:], partners[half:], rng)])
    images = np.stack([_augmented(task, rng, image) for image in images])
    return images, labels, weights, time.process_time() - start


def _cut_and_paste(images: np.ndarray, partners: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    size, weights = images.shape[1], []
    for image, partner in zip(images, partners, strict=True):
        half = round(size * np.sqrt(1 - rng.uniform()) / 2)
        row, column = rng.integers(0, size, 2)
        top, left = max(row - half, 0), max(column - half, 0)
        image[top : row + half, left : column + half] = partner[top : row + half, left : column + half]
        weights.append(1 - partner[top : row + half, left : column + half, 0].size / size**2)
    return np.array(weights, np.float32)


def _cropped(task: Task, rng: np.random.Generator, encoded: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(encoded)) as file:
        image = file.convert('RGB')
    image = image.resize((task.size,) * 2, Image.Resampling.BICUBIC, _window(image, task, rng))
    if rng.random() < 0.5:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    return np.asarray(image)


def _augmented(task: Task, rng: np.random.Generator, pixels: np.ndarray) -> np.ndarray:
    image = Image.fromarray(pixels)
    for _ in range(task.layers):
        image = _operate(image, int(rng.integers(16)), task.magnitude, rng)
    return np.asarray(image)


def _window(image: Image.Image, task: Task, rng: np.random.Generator) -> tuple[int, int, int, int]:
    for _ in range(10):
        area = rng.uniform(*task.crop_area) * image.width * image.height
        ratio = np.exp(rng.uniform(*np.log(_SIDES)))
        width, height = round(np.sqrt(area * ratio)), round(np.sqrt(area / ratio))
        if 0 < width <= image.width and 0 < height <= image.height:
            left, top = rng.integers(image.width - width + 1), rng.integers(image.height - height + 1)
            return left, top, left + width, top + height
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    return left, top, left + side, top + side


def _operate(image: Image.Image, operation: int, magnitude: int, rng: np.random.Generator) -> Image.Image:
    sign = rng.choice((-1, 1))
    match operation:
        case 0:
            return ImageOps.autocontrast(image)
        case 1:
            return ImageOps.equalize(image)
        case 2:
            return ImageOps.invert(image)
        case 3:
            return image.rotate(sign * 3 * magnitude, fillcolor=_GRAY)
        case 4:
            return ImageOps.posterize(image, max(1, min(8, int(0.4 * magnitude))))
        case 5:
            return ImageOps.solarize(image, int(25.6 * magnitude) % 256)
        case 6:
            added = 11 * magnitude
            return image.point([min(255, v + added) if v < 128 else v for v in range(256)] * 3)
        case 7 | 8 | 9 | 10:
            kinds = (
                ImageEnhance.Color,
                ImageEnhance.Contrast,
                ImageEnhance.Brightness,
                ImageEnhance.Sharpness,
            )
            return kinds[operation - 7](image).enhance(0.18 * magnitude + 0.1)
        case 15:
            half, (x, y) = 4 * magnitude, rng.integers(0, image.width, 2)
            image.paste(_GRAY, (max(x - half, 0), max(y - half, 0), x + half, y + half))
            return image
    shear, shift = sign * 0.03 * magnitude, sign * 10 * magnitude
    matrix = {
        11: (1, shear, 0, 0, 1, 0),
        12: (1, 0, 0, shear, 1, 0),
        13: (1, 0, shift, 0, 1, 0),
        14: (1, 0, 0, 0, 1, shift),
    }[operation]
    return image.transform(image.size, Image.Transform.AFFINE, matrix, fillcolor=_GRAY)
