"""Images of every format reach the network as evaluation would see them, upright."""

import io

import numpy as np
import pytest
from PIL import Image

from nfnets.data.decode import decode_eval
from nfnets.data.image_files import find_images, read_image, read_whole
from nfnets.data.preprocessing import Preprocessing
from nfnets.data.tensorflow import tf
from nfnets.errors import InputError

PREPROCESSING = Preprocessing(24, 8)


def _image(mode='RGB'):
    """A smooth image without symmetry, 40 wide and 30 high."""
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
    _image(mode).save(tmp_path / name, **settings)
    with Image.open(tmp_path / name) as image:
        np.testing.assert_allclose(read_image(tmp_path / name, PREPROCESSING), _expected(image), atol=0.01)


def test_a_jpeg_gives_the_very_pixels_of_evaluation(tmp_path):
    _image().save(tmp_path / 'a.jpg', quality=50)
    encoded = tf.constant((tmp_path / 'a.jpg').read_bytes())
    expected = decode_eval(encoded, PREPROCESSING).numpy()
    np.testing.assert_array_equal(read_image(tmp_path / 'a.jpg', PREPROCESSING), expected)


def test_an_image_that_the_camera_held_turned_is_turned_upright(tmp_path):
    turned = _image().transpose(Image.Transpose.ROTATE_90)
    exif = Image.Exif()
    exif[0x0112] = 6  # To be turned by 90 degrees clockwise.
    turned.save(tmp_path / 'a.png', exif=exif)
    np.testing.assert_allclose(read_image(tmp_path / 'a.png', PREPROCESSING), _expected(_image()), atol=0.01)


@pytest.mark.parametrize('form', ['JPEG', 'PNG', 'TIFF'])
def test_a_whole_image_is_pillows_at_its_own_size_and_upright(form, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    _image().save(tmp_path / 'a', form, **({'exif': exif} if form == 'PNG' else {}))
    with Image.open(tmp_path / 'a') as image:
        expected = np.asarray(image.transpose(Image.Transpose.ROTATE_270) if form == 'PNG' else image)
    np.testing.assert_array_equal(read_whole(tmp_path / 'a'), expected)
    np.testing.assert_array_equal(read_whole(expected), expected)
    with pytest.raises(InputError, match=r'/none .*No such file'):
        read_whole(tmp_path / 'none')


def test_sixteen_bits_become_eight(tmp_path):
    levels = np.linspace(0, 65535, 32 * 32).astype(np.uint16).reshape(32, 32)
    Image.fromarray(levels).save(tmp_path / 'a.tiff')
    out = read_image(tmp_path / 'a.tiff', Preprocessing(32, 0))
    np.testing.assert_allclose(out[..., 0], levels / 257, atol=0.51)


@pytest.mark.parametrize(
    ('content', 'message'),
    [
        (b'', 'is no image that Pillow reads'),
        (b'<html>', 'is no image that Pillow reads'),
        (None, 'No such file'),
    ],
)
def test_what_is_no_image_is_named(content, message, tmp_path):
    if content is not None:
        (tmp_path / 'a.jpg').write_bytes(content)
    with pytest.raises(InputError, match=rf'a\.jpg .*{message}'):
        read_image(tmp_path / 'a.jpg', PREPROCESSING)


@pytest.mark.parametrize('form', ['JPEG', 'PNG', 'TIFF'])
def test_a_file_that_is_cut_short_is_named(form, tmp_path):
    file = io.BytesIO()
    _image().save(file, form)
    (tmp_path / 'a').write_bytes(file.getvalue()[: len(file.getvalue()) // 2])
    with pytest.raises(InputError, match=r'/a (cannot be read as an image|is no image)'):
        read_image(tmp_path / 'a', PREPROCESSING)


# ---- Finding images


@pytest.fixture
def photos(tmp_path, monkeypatch):
    """A directory `photos` with files of many endings, where the test runs."""
    monkeypatch.chdir(tmp_path)
    for name in (
        *('b.jpg', 'a.PNG', 'c.tiff', 'notes.txt', 'LICENSE', '.hidden.jpg', '.thumbnails/a.jpg'),
        *('sub/d.webp', 'sub/deep.er/e.jpg', 'sub/deep.er/more.txt', 'sub/b.bmp'),
    ):
        (tmp_path / 'photos' / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / 'photos' / name).write_bytes(b'')
    (tmp_path / 'photos' / 'sub' / 'back').symlink_to(tmp_path / 'photos')
    return tmp_path / 'photos'


def _found(*given):
    paths, skipped = find_images(given)
    return [str(path) for path in paths], skipped


def test_a_directory_stands_for_the_images_below_it(photos):
    names = ('a.PNG', 'b.jpg', 'c.tiff', 'sub/b.bmp', 'sub/d.webp', 'sub/deep.er/e.jpg')
    paths, skipped = _found('photos')
    assert paths == [f'photos/{name}' for name in names]
    assert skipped.startswith('3 files skipped, of other types than .avif, .bmp, .gif, ')
    assert skipped.endswith(': 2 .txt, 1 without an ending')
    assert _found(f'{photos}/')[0] == [f'{photos}/{name}' for name in names]


def test_a_pattern_stands_for_the_images_that_it_matches(photos):
    assert _found('photos/*.jpg') == (['photos/b.jpg'], None)
    assert _found('photos/[ab].*') == (['photos/a.PNG', 'photos/b.jpg'], None)
    assert _found('photos/*/d*/*.jpg', 'photos/sub/?.w*') == (
        ['photos/sub/deep.er/e.jpg', 'photos/sub/d.webp'],
        None,
    )
    paths, skipped = _found('photos/*')
    assert paths == ['photos/a.PNG', 'photos/b.jpg', 'photos/c.tiff']
    assert skipped.startswith('2 files skipped')


def test_files_are_taken_as_they_are_named_and_in_order(photos):
    (photos / 'x[1].jpg').write_bytes(b'')
    given = ['photos/x[1].jpg', 'photos/notes.txt', 'nowhere.jpg', 'photos/.hidden.jpg']
    assert _found(*given) == (given, None)


def test_a_folder_without_images_is_named(photos):
    (photos / 'empty').mkdir()
    (photos / 'texts').mkdir()
    (photos / 'texts' / 'a.md').write_bytes(b'')
    for given, message in (
        ('photos/empty', r'photos/empty holds no image: expected \.avif, \.bmp, '),
        ('photos/texts', r'photos/texts holds no image: 1 file skipped, .*: 1 \.md$'),
        ('photos/*.gif', r'photos/\*\.gif matches no image: expected'),
        ('photos/*.txt', r'photos/\*\.txt matches no image: 1 file skipped, .*: 1 \.txt$'),
        ('https://host/a.jpg', r'https://host/a\.jpg .*give a path on a disk or gs://'),
        ('s3://bucket/*.jpg', r's3://bucket/\*\.jpg .*give a path on a disk or gs://'),
        ('photos/**/*.jpg', r'photos/\*\*/\*\.jpg: \*\* is no pattern here; name a directory'),
    ):
        with pytest.raises(InputError, match=message):
            find_images(['photos/b.jpg', given])


def test_a_directory_that_may_not_be_read_is_named(photos, monkeypatch):
    def refuse(path):
        raise PermissionError(13, 'Permission denied')

    monkeypatch.setattr('os.listdir', refuse)  # Root may read any.
    with pytest.raises(InputError, match='photos cannot be read: Permission denied'):
        find_images(['photos'])
