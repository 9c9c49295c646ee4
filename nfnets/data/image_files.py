"""Finds images, and reads one of any format for a network, as evaluation would."""

import glob
import io
import os
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import TypeAlias

import numpy as np
import PIL.Image
from etils import epath
from PIL import ImageOps, UnidentifiedImageError

from nfnets.data.decode import ACCURATE, as_graph, decode_eval, decode_image
from nfnets.data.folder import EXTENSIONS, describe_skipped
from nfnets.data.preprocessing import Preprocessing
from nfnets.data.tensorflow import tf
from nfnets.errors import InputError
from nfnets.files import as_path, failure, file_errors, is_local, why

# One image, and one or several.
Image: TypeAlias = str | os.PathLike | PIL.Image.Image | np.ndarray
Images: TypeAlias = Image | Iterable[Image]

_UPRIGHT = 1
_ORIENTATION = 0x0112  # Of EXIF's tags.
# Of what is found, not named: Pillow also opens what is seldom an image, such as .mpg and .h5.
_ENDINGS = EXTENSIONS | {'.avif', '.jfif', '.jp2', '.pbm', '.pgm', '.ppm', '.tga', '.tif', '.tiff'}


def find_images(given: Sequence[str]) -> tuple[list[epath.Path], str | None]:
    """Looks into directories and resolves patterns; whether a file is there, and an image, it does not ask.

    Args:
      given: files as they are; directories, for all below them that end as images do; patterns such as
        'photos/*.jpg'. Hidden files are skipped unless named.

    Returns:
      The images, sorted within each that was given, and one line that counts other files, if any.

    Raises:
      InputError: there is no image in a directory or of a pattern, or it cannot be read.
      TrainingStopped: its bucket does not answer now.
    """
    found: list[epath.Path] = []
    skipped = Counter[str]()
    for text in given:
        try:
            images, others = _find(text)
        except file_errors() as error:
            raise failure(f'{text} cannot be read: {why(error)}', error) from error
        if not images:
            verb = 'holds' if as_path(text).is_dir() else 'matches'
            what = describe_skipped(others, _ENDINGS) if others else f'expected {", ".join(sorted(_ENDINGS))}'
            raise InputError(f'{text} {verb} no image: {what}')
        found += images
        skipped += others
    return found, describe_skipped(skipped, _ENDINGS) if skipped else None


def _find(text: str) -> tuple[list[epath.Path], Counter[str]]:
    """The images that one argument stands for, and how many other files of each ending."""
    path = as_path(text)
    if path.is_dir():
        files = _files_below(path)
    elif glob.has_magic(text) and not path.exists():
        if '**' in text:
            raise InputError(f'{text}: ** is no pattern here; name a directory for all that is below it')
        matches = path.parent.glob(path.name)
        files = [file for file in matches if file.name[0] != '.' and not _is_folder(file)]
    else:
        return [path], Counter()
    others = Counter(file.suffix.lower() for file in files if not _is_image(file))
    return sorted(filter(_is_image, files)), others


def _files_below(directory: epath.Path) -> list[epath.Path]:
    """All files but hidden ones; links to directories are not followed."""
    files = []
    for path in directory.iterdir():
        if path.name[0] == '.':
            continue
        if not _is_folder(path):
            files.append(path)
        elif not os.path.islink(path):  # It may lead back here.
            files += _files_below(path)
    return files


def _is_folder(path: epath.Path) -> bool:
    # In a bucket it takes a request, so not of each image.
    return (is_local(path) or not _is_image(path)) and path.is_dir()


def _is_image(path: epath.Path) -> bool:
    return path.suffix.lower() in _ENDINGS


def is_one_image(images: 'Images') -> bool:
    """Whether this is one image, as `read_image` takes it, and not several."""
    return isinstance(images, str | os.PathLike | PIL.Image.Image) or getattr(images, 'ndim', 0) in (2, 3)


def read_image(image: 'Image', preprocessing: Preprocessing) -> np.ndarray:
    """Preprocesses an image; what a camera held turned is turned upright.

    Args:
      image: path of a file of any format that Pillow reads, an image of Pillow, or an array uint8 [H, W, 3]
        or [H, W].
      preprocessing: of the network.

    Returns:
      float32 [size, size, 3], pixels in 0..255, but for overshoot of the resize.

    Raises:
      InputError: the file is missing, or it is no image.
    """
    return _decoded(image, as_graph(decode_eval, preprocessing))


def read_whole(image: 'Image') -> np.ndarray:
    """The pixels of an image at its own size, uint8 [H, W, 3]; arguments and errors as of `read_image`."""
    return _decoded(image, as_graph(decode_image, ACCURATE))


def _decoded(image: 'Image', decode: Callable[[tf.Tensor], tf.Tensor]) -> np.ndarray:
    if isinstance(image, str | os.PathLike):
        return _decoded_file(as_path(image), decode)
    if not isinstance(image, PIL.Image.Image):
        image = _from_array(image)
    try:
        return decode(tf.constant(_as_png(image))).numpy()
    except (OSError, SyntaxError, ValueError) as error:
        raise InputError(f'{image} cannot be read as an image: {why(error)[:200]}') from error


def _from_array(array: object) -> PIL.Image.Image:
    if not hasattr(array, 'ndim'):
        raise InputError(f'{array!r} is no image: give a path, an image of Pillow or an array')
    levels = np.asarray(array)
    is_image = levels.ndim == 2 or (levels.ndim == 3 and levels.shape[2] == 3)
    if levels.dtype != np.uint8 or not is_image or not levels.size:
        raise InputError(
            f'an array {levels.dtype}{list(levels.shape)} is no image: give levels 0..255, uint8 [H, W, 3], '
            'or [H, W] for gray'
        )
    return PIL.Image.fromarray(levels)


def _decoded_file(path: epath.Path, decode: Callable[[tf.Tensor], tf.Tensor]) -> np.ndarray:
    try:
        encoded = path.read_bytes()
        with PIL.Image.open(io.BytesIO(encoded)) as image:
            as_it_is = (
                image.format in ('JPEG', 'PNG') and image.getexif().get(_ORIENTATION, _UPRIGHT) == _UPRIGHT
            )
            image.load()
            if not as_it_is:
                encoded = _as_png(image)
        # The bytes themselves where evaluation could read them, so that it sees the same pixels.
        return decode(tf.constant(encoded)).numpy()
    except UnidentifiedImageError as error:
        raise InputError(f'{path} is no image that Pillow reads') from error
    except (
        OSError,
        SyntaxError,
        ValueError,
        PIL.Image.DecompressionBombError,
        tf.errors.OpError,
    ) as error:
        raise InputError(f'{path} cannot be read as an image: {why(error)[:200]}') from error


def _as_png(image: PIL.Image.Image) -> bytes:
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith('I'):  # Pillow would cut the 16 bits off at 255.
        image = PIL.Image.fromarray((np.asarray(image) / 257).round().clip(0, 255).astype(np.uint8))
    file = io.BytesIO()
    image.convert('RGB').save(file, 'PNG', compress_level=1)
    return file.getvalue()
