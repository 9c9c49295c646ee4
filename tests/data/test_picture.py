"""Pictures of every format reach the network as evaluation would see them, upright."""

import io

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from nfnets.data.decode import decode_eval
from nfnets.data.picture import read_picture
from nfnets.data.preprocessing import Preprocessing
from nfnets.errors import InputError

PREPROCESSING = Preprocessing(24, 8)


def _picture(mode='RGB'):
    """A smooth picture without symmetry, 40 wide and 30 high."""
    y, x = np.mgrid[:30, :40]
    pixels = np.stack([6 * x, 8 * y, 4 * x + 3 * y], axis=-1).astype(np.uint8)
    return Image.fromarray(pixels).convert(mode)


def _expected(image):
    """By TensorFlow's resize of Pillow's pixels."""
    resized = tf.image.resize(np.asarray(image.convert('RGB'), np.float32), (32, 32), 'bicubic').numpy()
    return resized[4:28, 4:28]


@pytest.mark.parametrize(
    ('name', 'mode', 'settings'),
    [
        ('a.png', 'RGB', {}),
        ('a.png', 'P', {}),
        ('a.bmp', 'P', {}),
        ('a.gif', 'P', {}),
        ('a.webp', 'RGB', {'lossless': True}),
        ('a.tiff', 'CMYK', {}),
        ('a.tiff', 'L', {}),
        ('a.ppm', 'RGB', {}),
        ('without_suffix', 'RGBA', {'format': 'PNG'}),
    ],
)
def test_every_format_gives_pillows_pixels(name, mode, settings, tmp_path):
    _picture(mode).save(tmp_path / name, **settings)
    with Image.open(tmp_path / name) as image:
        np.testing.assert_allclose(read_picture(tmp_path / name, PREPROCESSING), _expected(image), atol=0.01)


def test_a_jpeg_gives_the_very_pixels_of_evaluation(tmp_path):
    _picture().save(tmp_path / 'a.jpg', quality=50)
    encoded = tf.constant((tmp_path / 'a.jpg').read_bytes())
    expected = decode_eval(encoded, PREPROCESSING).numpy()
    np.testing.assert_array_equal(read_picture(tmp_path / 'a.jpg', PREPROCESSING), expected)


def test_a_picture_that_the_camera_held_turned_is_turned_upright(tmp_path):
    turned = _picture().transpose(Image.Transpose.ROTATE_90)
    exif = Image.Exif()
    exif[0x0112] = 6  # To be turned by 90 degrees clockwise.
    turned.save(tmp_path / 'a.png', exif=exif)
    np.testing.assert_allclose(
        read_picture(tmp_path / 'a.png', PREPROCESSING), _expected(_picture()), atol=0.01
    )


def test_sixteen_bits_become_eight(tmp_path):
    levels = np.linspace(0, 65535, 32 * 32).astype(np.uint16).reshape(32, 32)
    Image.fromarray(levels).save(tmp_path / 'a.tiff')
    out = read_picture(tmp_path / 'a.tiff', Preprocessing(32, 0))
    np.testing.assert_allclose(out[..., 0], levels / 257, atol=0.51)


@pytest.mark.parametrize(
    ('content', 'told'),
    [
        (b'', 'is no image that Pillow reads'),
        (b'<html>', 'is no image that Pillow reads'),
        (None, 'No such file'),
    ],
)
def test_what_is_no_image_is_named(content, told, tmp_path):
    if content is not None:
        (tmp_path / 'a.jpg').write_bytes(content)
    with pytest.raises(InputError, match=rf'a\.jpg .*{told}'):
        read_picture(tmp_path / 'a.jpg', PREPROCESSING)


@pytest.mark.parametrize('form', ['JPEG', 'PNG', 'TIFF'])
def test_a_file_that_is_cut_short_is_named(form, tmp_path):
    file = io.BytesIO()
    _picture().save(file, form)
    (tmp_path / 'a').write_bytes(file.getvalue()[: len(file.getvalue()) // 2])
    with pytest.raises(InputError, match=r'/a (cannot be read as an image|is no image)'):
        read_picture(tmp_path / 'a', PREPROCESSING)
