"""Reads a picture of any format for a network, as evaluation would."""

import io

import numpy as np
import tensorflow as tf
from etils import epath
from PIL import Image, ImageOps, UnidentifiedImageError

from nfnets.data.decode import decode_eval
from nfnets.data.preprocessing import Preprocessing
from nfnets.errors import InputError
from nfnets.files import why

_UPRIGHT = 1
_ORIENTATION = 0x0112  # Of EXIF's tags.


def read_picture(path: epath.Path, preprocessing: Preprocessing) -> np.ndarray:
    """Opens an image file and preprocesses it; what a camera held turned is turned upright.

    Args:
      path: a file of any format that Pillow reads.
      preprocessing: of the network.

    Returns:
      float32 [size, size, 3], pixels in 0..255, but for overshoot of the resize.

    Raises:
      InputError: the file is missing, or no image.
    """
    try:
        encoded = path.read_bytes()
        with Image.open(io.BytesIO(encoded)) as image:
            as_it_is = (
                image.format in ('JPEG', 'PNG') and image.getexif().get(_ORIENTATION, _UPRIGHT) == _UPRIGHT
            )
            image.load()
            if not as_it_is:
                encoded = _as_png(image)
        # The bytes themselves where evaluation could read them, so that it sees the same pixels.
        return decode_eval(tf.constant(encoded), preprocessing).numpy()
    except UnidentifiedImageError as error:
        raise InputError(f'{path} is no image that Pillow reads') from error
    except (
        OSError,
        SyntaxError,
        ValueError,
        Image.DecompressionBombError,
        tf.errors.OpError,
    ) as error:
        raise InputError(f'{path} cannot be read as an image: {why(error)[:200]}') from error


def _as_png(image: Image.Image) -> bytes:
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith('I'):  # Pillow would cut the 16 bits off at 255.
        image = Image.fromarray((np.asarray(image) / 257).round().clip(0, 255).astype(np.uint8))
    file = io.BytesIO()
    image.convert('RGB').save(file, 'PNG', compress_level=1)
    return file.getvalue()
