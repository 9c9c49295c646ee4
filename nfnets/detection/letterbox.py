"""Images in the square that the network sees: a TensorFlow graph function for tf.data's threads."""

import numpy as np

from nfnets.data.augment import MEAN
from nfnets.data.decode import ACCURATE, decode_image
from nfnets.data.tensorflow import tf

PADDING = np.rint(255 * np.array(MEAN)).astype(np.uint8)  # About 0 for the network.


def decode_placed(encoded: tf.Tensor, placing: tf.Tensor, size: int) -> tf.Tensor:
    """As `place_pixels`, of an encoded image: string [], JPEG, PNG, WebP, BMP or GIF (the first frame)."""
    return place_pixels(decode_image(encoded, ACCURATE), placing, size)


def place_pixels(image: tf.Tensor, placing: tf.Tensor, size: int) -> tf.Tensor:
    """An image scaled, cut, mirrored and padded; bilinear, and antialiased where it shrinks, as by Pillow.

    Args:
      image: uint8 [H, W, 3].
      placing: int64 [6], the numbers of a `Placing`.
      size: S, px.

    Returns:
      uint8 [S, S, 3].
    """
    height, width, top, left, is_mirrored, _ = tf.unstack(tf.ensure_shape(placing, (6,)))
    scaled = tf.cast(tf.stack([height, width]), tf.float32)
    shown = tf.minimum(tf.stack([height - top, width - left]), size)
    seen = tf.raw_ops.ScaleAndTranslate(
        images=image[None],
        size=tf.cast(shown, tf.int32),
        scale=scaled / tf.cast(tf.shape(image)[:2], tf.float32),
        translation=-tf.cast(tf.stack([top, left]), tf.float32),
        kernel_type='triangle',
        antialias=True,
    )[0]
    seen = tf.cond(is_mirrored > 0, lambda: seen[:, ::-1], lambda: seen)
    padding = tf.constant(PADDING, tf.float32)
    rows, columns = tf.unstack(size - shown)
    square = tf.pad(seen - padding, [[0, rows], [0, columns], [0, 0]]) + padding
    square = tf.round(tf.clip_by_value(square, 0.0, 255.0))
    return tf.ensure_shape(tf.cast(square, tf.uint8), (size, size, 3))
