"""From encoded bytes to pixels, as TensorFlow graph functions that run in tf.data's own threads.

The geometry is that of the code released with the paper (arXiv 2102.06171): distorted bounding boxes in
training; in evaluation a bicubic resize of the whole image to a square, whatever its aspect, then the
center. Neither resize antialiases. Evaluation in timm's styles is Pillow's and torchvision's.
"""

import dataclasses
import functools
from collections.abc import Callable, Hashable

from nfnets.data.preprocessing import Preprocessing
from nfnets.data.tensorflow import tf

_ASPECT = (3 / 4, 4 / 3)
_MIN_OBJECT = 0.1  # Fraction of the whole image that a crop must cover at least.
_ATTEMPTS = 10
ACCURATE = 'INTEGER_ACCURATE'  # Of a JPEG the pixels that Pillow gives.


@dataclasses.dataclass(frozen=True)
class TrainCrop:
    """Settings of the random crop of training images.

    Attributes:
      size: side of the result, px.
      margin: where no crop is found, the center of size / (size + margin) of the shorter side is taken, px.
      area: least and most fraction of the image that the crop covers.
      flip: whether half of the images are mirrored.
    """

    size: int
    margin: int
    area: tuple[float, float]
    flip: bool


@functools.cache
def as_graph(decode: Callable[..., tf.Tensor], settings: Hashable) -> Callable[..., tf.Tensor]:
    """The function of tensors that `decode(*tensors, settings)` is, as one graph for the whole process.

    To trace it for each pipeline would take a tenth of a second, to run it op by op milliseconds an image.
    """
    return tf.function(lambda *tensors: decode(*tensors, settings), autograph=False)


def decode_train(encoded: tf.Tensor, seed: tf.Tensor, crop: TrainCrop) -> tf.Tensor:
    """A random crop of an image, perhaps mirrored, resized.

    Args:
      encoded: string [], JPEG, PNG, WebP, BMP or GIF (the first frame), of any color space.
      seed: int64 [2]; the crop is a function of it.
      crop: sizes.

    Returns:
      uint8 [size, size, 3], rounded to the nearest level.
    """
    crop_seed, flip_seed = tf.unstack(tf.random.experimental.stateless_split(seed, 2))
    image = random_crop(encoded, crop_seed, crop)
    if crop.flip:
        image = tf.image.stateless_random_flip_left_right(image, flip_seed)
    image = _resize(image, crop.size)
    return tf.cast(tf.round(tf.clip_by_value(image, 0.0, 255.0)), tf.uint8)


def random_crop(encoded: tf.Tensor, seed: tf.Tensor, crop: TrainCrop) -> tf.Tensor:
    """The crop of `decode_train`, uint8 [H, W, 3] as it is in the image; of a JPEG no more is decoded."""

    def from_jpeg() -> tf.Tensor:
        window = _random_window(tf.io.extract_jpeg_shape(encoded), seed, crop)
        return tf.io.decode_and_crop_jpeg(encoded, window, channels=3)

    def from_other() -> tf.Tensor:
        image = _decode_other(encoded)
        top, left, height, width = tf.unstack(_random_window(tf.shape(image), seed, crop))
        return image[top : top + height, left : left + width]

    return tf.cond(tf.io.is_jpeg(encoded), from_jpeg, from_other)


def _random_window(shape: tf.Tensor, seed: tf.Tensor, crop: TrainCrop) -> tf.Tensor:
    """[top, left, height, width] of a distorted bounding box, int32."""
    begin, extent, _ = tf.image.stateless_sample_distorted_bounding_box(
        shape,
        tf.zeros((1, 0, 4)),
        seed,
        min_object_covered=_MIN_OBJECT,
        aspect_ratio_range=_ASPECT,
        area_range=crop.area,
        max_attempts=_ATTEMPTS,
        use_image_if_no_bounding_boxes=True,
    )
    window = tf.stack([begin[0], begin[1], extent[0], extent[1]])
    # No attempt succeeded, or the whole image was drawn: the released code cannot tell, nor do we.
    is_whole = tf.reduce_all(extent[:2] == shape[:2])
    fraction = crop.size / (crop.size + crop.margin)
    return tf.cond(is_whole, lambda: _center_window(shape, fraction), lambda: window)


def _center_window(shape: tf.Tensor, fraction: float) -> tf.Tensor:
    side = tf.cast(fraction * tf.cast(tf.minimum(shape[0], shape[1]), tf.float32), tf.int32)
    side = tf.maximum(side, 1)
    return tf.stack([(shape[0] - side + 1) // 2, (shape[1] - side + 1) // 2, side, side])


def decode_eval(encoded: tf.Tensor, preprocessing: Preprocessing) -> tf.Tensor:
    """The center of the resized image.

    Args:
      encoded: string [], JPEG, PNG, WebP, BMP or GIF (the first frame), of any color space.
      preprocessing: sizes and style.

    Returns:
      float32 [size, size, 3]; in the paper's style bicubic overshoot below 0 and above 255 is kept.
    """
    size, margin = preprocessing.size, preprocessing.margin
    if preprocessing.style == 'paper':
        offset = (margin + 1) // 2
        return _resize(decode_image(encoded), size + margin)[offset : offset + size, offset : offset + size]
    image = decode_image(encoded, ACCURATE)
    resized = tf.constant((size + margin, size + margin))
    if preprocessing.style == 'timm_center':
        sides = tf.shape(image)[:2]
        resized = (size + margin) * sides // tf.reduce_min(sides)
    return _center_as_pillow(image, resized, size)


def decode_image(encoded: tf.Tensor, dct_method: str = '') -> tf.Tensor:
    """An image as it is, uint8 [H, W, 3]; `dct_method` is of JPEG, as of `tf.io.decode_jpeg`."""
    return tf.cond(
        tf.io.is_jpeg(encoded),
        lambda: tf.io.decode_jpeg(encoded, channels=3, dct_method=dct_method),
        lambda: _decode_other(encoded),
    )


def _decode_other(encoded: tf.Tensor) -> tf.Tensor:
    """An image that is no JPEG."""
    image = tf.cond(
        _is_still_webp(encoded),
        # Asked for 3 channels, it refuses images that have a fourth, of transparency.
        lambda: tf.io.decode_webp(encoded)[0, ..., :3],
        lambda: tf.io.decode_image(encoded, channels=3, expand_animations=False),
    )
    return tf.ensure_shape(image, (None, None, 3))


def _is_still_webp(encoded: tf.Tensor) -> tf.Tensor:
    """Whether an image is WebP and no animation: of one TensorFlow 2.21's decode_webp was seen to crash."""
    octets = tf.io.decode_raw(tf.strings.substr(encoded, 0, 21), tf.uint8, fixed_length=21)

    def holds(text: bytes, position: int) -> tf.Tensor:
        return tf.reduce_all(octets[position : position + len(text)] == tf.constant(list(text), tf.uint8))

    is_animation = holds(b'VP8X', 12) & (tf.bitwise.bitwise_and(octets[20], 2) > 0)
    return holds(b'RIFF', 0) & holds(b'WEBP', 8) & ~is_animation


def _resize(image: tf.Tensor, size: int) -> tf.Tensor:
    image = tf.image.resize(image, (size, size), method='bicubic')
    return tf.ensure_shape(image, (size, size, 3))


def _center_as_pillow(image: tf.Tensor, resized: tf.Tensor, size: int) -> tf.Tensor:
    """The center [size, size, 3] of an image resized to height and width, px; nothing else is computed."""
    before = tf.cast(tf.shape(image)[:2], tf.float32)
    scale = tf.cast(resized, tf.float32) / before
    offset = tf.round((tf.cast(resized, tf.float32) - size) / 2)  # Halves to even, as torchvision does.
    # One direction after the other, each rounded to bytes.
    for shape, along in (((tf.shape(image)[0], size), (0.0, 1.0)), ((size, size), (1.0, 0.0))):
        moved = tf.raw_ops.ScaleAndTranslate(
            images=tf.cast(image, tf.float32)[None],
            size=shape,
            scale=tf.where(tf.constant(along) > 0, scale, 1.0),
            translation=-offset * along,
            kernel_type='keyscubic',
            antialias=True,
        )
        image = tf.round(tf.clip_by_value(moved[0], 0.0, 255.0))
    return tf.ensure_shape(image, (size, size, 3))
