"""Decoding against the released code's pixels, PIL, and the law of random crops."""

import dataclasses
import io

import golden_numbers
import numpy as np
import pytest
from PIL import Image

from nfnets.data import decode
from nfnets.data.preprocessing import Preprocessing, default_margin, default_preprocessing
from nfnets.data.tensorflow import tf
from nfnets.models.variants import RECIPES

MEAN, STD = np.array([0.485, 0.456, 0.406]) * 255, np.array([0.229, 0.224, 0.225]) * 255
CROP = decode.TrainCrop(size=16, margin=32, area=(0.08, 1.0), flip=True)


def _image(mode='RGB', size=(40, 30)):
    coarse = np.random.default_rng(0).integers(0, 256, (6, 8, 3)).astype(np.uint8)
    return Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC).convert(mode)


def _encode(image, form, **settings):
    file = io.BytesIO()
    image.save(file, form, **settings)
    return file.getvalue()


def _train(encoded, seed=0, **changed):
    crop = dataclasses.replace(CROP, **changed)
    return decode.decode_train(tf.constant(encoded), tf.constant([0, seed], tf.int64), crop).numpy()


@pytest.mark.parametrize('name', ['landscape', 'portrait_gray'])
def test_evaluation_gives_the_released_codes_pixels(name):
    golden = golden_numbers.load(f'preproc_{name}.npz')
    out = decode.decode_eval(tf.constant(golden['jpeg'].tobytes()), Preprocessing(64, 32)).numpy()
    expected = golden['resize_crop_32_64'] * STD + MEAN
    assert np.abs(out - expected).max() < 1e-3 * 255


@pytest.mark.parametrize(
    ('form', 'mode', 'settings'),
    [
        ('PNG', 'RGB', {}),
        ('PNG', 'RGBA', {}),
        ('PNG', 'L', {}),
        ('PNG', 'P', {}),
        ('PNG', '1', {}),
        ('BMP', 'RGB', {}),
        ('GIF', 'P', {}),
        ('WEBP', 'RGB', {'quality': 80}),
        ('WEBP', 'RGBA', {'quality': 80}),
        ('WEBP', 'L', {'lossless': True}),
        ('WEBP', 'RGBA', {'lossless': True, 'icc_profile': b'profile', 'exif': b'Exif\0\0'}),
        ('JPEG', 'RGB', {'quality': 95}),
        ('JPEG', 'L', {'quality': 95}),
        ('JPEG', 'CMYK', {'quality': 95, 'subsampling': 0}),
    ],
)
def test_every_format_and_color_space_becomes_rgb(form, mode, settings):
    image = _image(mode)
    encoded = _encode(image, form, **settings)
    expected = np.asarray(Image.open(io.BytesIO(encoded)).convert('RGB')).astype(float)
    out = decode.decode_eval(tf.constant(encoded), Preprocessing(16, 0)).numpy()
    resized = tf.image.resize(expected, (16, 16), 'bicubic').numpy()
    # TensorFlow decodes JPEG by the fast transform, PIL by the accurate one: some levels apart. A wrong
    # color space would be a hundred apart.
    most, mean = (16.0, 3.0) if form == 'JPEG' else (0.01, 0.01)
    assert np.abs(out - resized).max() < most
    assert np.abs(out - resized).mean() < mean
    assert _train(encoded).shape == (16, 16, 3)


@pytest.mark.parametrize('shape', [(400, 300), (90, 233)])  # Made smaller, and larger in one direction.
def test_timms_style_is_pillows_resize(shape):
    image = np.random.default_rng(0).integers(0, 256, (*(side // 10 for side in shape), 3), dtype=np.uint8)
    encoded = _encode(
        Image.fromarray(image).resize(shape[::-1], Image.Resampling.BICUBIC), 'JPEG', quality=95
    )
    out = decode.decode_eval(tf.constant(encoded), Preprocessing(96, 15, 'timm')).numpy()
    resized = Image.open(io.BytesIO(encoded)).resize((111, 111), Image.Resampling.BICUBIC)
    # Pillow has its weights in fixed point: a level here and there.
    difference = np.abs(out - np.asarray(resized, float)[8:104, 8:104])
    assert difference.max() <= 1
    assert difference.mean() < 1e-3
    other = decode.decode_eval(tf.constant(encoded), Preprocessing(96, 15, 'paper')).numpy()
    assert np.abs(out - other).max() > 10


@pytest.mark.parametrize('shape', [(400, 300), (90, 233), (96, 96)])
@pytest.mark.parametrize('margin', [0, 13])
def test_timms_center_keeps_the_aspect_as_torchvision_does(shape, margin):
    image = np.random.default_rng(0).integers(0, 256, (*(side // 10 for side in shape), 3), dtype=np.uint8)
    encoded = _encode(
        Image.fromarray(image).resize(shape[::-1], Image.Resampling.BICUBIC), 'JPEG', quality=95
    )
    out = decode.decode_eval(tf.constant(encoded), Preprocessing(96, margin, 'timm_center')).numpy()
    # torchvision's Resize(96 + margin) and CenterCrop(96), which round so.
    height, width = (int((96 + margin) * side / min(shape)) for side in shape)
    top, left = (round((side - 96) / 2.0) for side in (height, width))
    resized = Image.open(io.BytesIO(encoded)).resize((width, height), Image.Resampling.BICUBIC)
    difference = np.abs(out - np.asarray(resized, float)[top : top + 96, left : left + 96])
    assert difference.max() <= 1
    assert difference.mean() < 2e-3


def test_of_a_long_image_no_more_is_resized_than_is_seen():
    stripe = tf.io.encode_png(np.full((30_000, 2, 3), 7, np.uint8)).numpy()  # Whole, 17 GB at this size.
    out = decode.decode_eval(tf.constant(stripe), Preprocessing(448, 0, 'timm_center')).numpy()
    np.testing.assert_array_equal(out, np.full((448, 448, 3), 7.0))


@pytest.mark.parametrize(
    ('name', 'size', 'style', 'margin'),
    [
        ('F0', None, None, 32),
        ('F1', None, 'timm', 31),  # int(320 / 0.91) - 320
        ('F1', 100, 'timm', 11),
        ('nfnet_l0', None, None, 0),
        ('nfnet_l0', 224, None, 24),  # int(224 / 0.9) - 224
        ('nfnet_l0', None, 'paper', 32),
        ('eca_nfnet_l2', None, None, 0),
        ('eca_nfnet_l2', 320, None, 35),
        ('nf_regnet_b1', None, None, 32),
        ('nf_resnet50', None, None, 18),  # int(288 / 0.94) - 288
        ('nf_resnet50', 256, None, 16),
    ],
)
def test_preprocessing_follows_from_the_variant(name, size, style, margin):
    recipe = RECIPES[name]
    expected = Preprocessing(size or recipe.eval_size, margin, style or recipe.eval_style)
    assert default_preprocessing(recipe, size, style) == expected
    assert recipe.eval_style == ('timm_center' if 'n' in name else 'paper')


def test_timms_margin_is_that_of_its_crop_fraction():
    # crop_pct of timm's dm_nfnet_f0 .. f6, which resize to int(size / crop_pct).
    shares = {256: 0.9, 320: 0.91, 352: 0.92, 416: 0.94, 512: 0.951, 544: 0.954, 576: 0.956}
    for variant in ('F0', 'F1', 'F2', 'F3', 'F4', 'F5', 'F6'):
        size = RECIPES[variant].eval_size
        assert default_margin(size, 'timm') == int(size / shares[size]) - size
        assert default_margin(size, 'paper') == 32
    assert default_margin(100, 'timm') == 11


def test_sixteen_bits_become_eight():
    levels = np.linspace(0, 65535, 64).astype(np.uint16).reshape(8, 8)
    encoded = tf.io.encode_png(levels[..., None]).numpy()
    out = decode.decode_eval(tf.constant(encoded), Preprocessing(8, 0)).numpy()
    np.testing.assert_allclose(out[..., 0], levels / 257, atol=1.0)


def test_a_crop_is_a_function_of_its_seed():
    encoded = _encode(_image(), 'JPEG')
    first = _train(encoded, seed=1)
    assert first.dtype == np.uint8
    np.testing.assert_array_equal(_train(encoded, seed=1), first)
    assert np.any(_train(encoded, seed=2) != first)


def test_half_of_the_images_are_mirrored_and_none_if_not_wanted():
    ramp = np.tile(np.linspace(0, 255, 32).astype(np.uint8)[None, :, None], (32, 1, 3))
    encoded = tf.io.encode_png(ramp).numpy()
    falls = [_falls(_train(encoded, seed)) for seed in range(200)]
    assert 70 < sum(falls) < 130
    assert not any(_falls(_train(encoded, seed, flip=False)) for seed in range(50))


def _falls(image):
    return bool(np.mean(image[:, 0]) > np.mean(image[:, -1]))


def test_crops_cover_the_areas_and_aspects_asked_for():
    """An image whose red and green channels are its coordinates shows where a crop came from."""
    side = 200
    y, x = np.mgrid[0:side, 0:side]
    image = np.stack([x, y, 0 * x], -1).astype(np.uint8)
    encoded = tf.io.encode_png(image).numpy()
    areas, aspects = [], []
    for seed in range(300):
        out = _train(encoded, seed, size=32, area=(0.2, 0.6), flip=False).astype(float)
        # Pixel centers of 32 lie half a step inside of the crop on both sides.
        width, height = (np.ptp(out[..., channel]) * 32 / 31 for channel in (0, 1))
        areas.append(width * height / side**2)
        aspects.append(width / height)
    assert min(areas) > 0.18
    assert max(areas) < 0.63
    assert np.mean(areas) == pytest.approx(0.4, abs=0.03)
    assert min(aspects) > 0.72
    assert max(aspects) < 1.4


def test_a_crop_that_is_the_whole_image_becomes_the_center():
    image = np.zeros((128, 128, 3), np.uint8)
    image[32:96, 32:96] = 255
    out = _train(tf.io.encode_png(image).numpy(), size=32, area=(1.0, 1.0), flip=False)
    # 32 of 64 px: the center half, which is white.
    np.testing.assert_array_equal(out, 255)
    speck = tf.io.encode_png(np.full((2, 2, 3), 9, np.uint8)).numpy()
    np.testing.assert_array_equal(_train(speck, area=(1.0, 1.0)), 9)


def test_crops_of_webp_are_those_of_the_same_pixels_as_png():
    encoded = _encode(_image('RGBA', (90, 70)), 'WEBP', quality=80)
    as_png = _encode(Image.open(io.BytesIO(encoded)).convert('RGB'), 'PNG')
    for seed in range(5):
        np.testing.assert_array_equal(_train(encoded, seed), _train(as_png, seed))


@pytest.mark.parametrize('mode', ['RGB', 'RGBA'])
def test_an_animation_of_webp_is_an_error(mode):
    frames = [_image(mode), _image(mode).rotate(90)]
    encoded = _encode(frames[0], 'WEBP', save_all=True, append_images=frames[1:])
    with pytest.raises(tf.errors.InvalidArgumentError):
        _train(encoded)


@pytest.mark.parametrize('form', ['JPEG', 'PNG', 'WEBP'])
def test_a_file_cut_short_is_an_error(form):
    encoded = _encode(_image(size=(100, 80)), form)
    for broken in (encoded[: len(encoded) // 2], b'', b'no image'):
        with pytest.raises(tf.errors.InvalidArgumentError):
            _train(broken)
