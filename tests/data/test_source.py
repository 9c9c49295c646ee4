"""The sources, and the errors about data that cannot be used."""

import io
import json
import shutil

import numpy as np
import pytest
import tensorflow_datasets as tfds
import tiny_imagenet
from PIL import Image
from sklearn.datasets import load_digits

from nfnets.data.load import load_source
from nfnets.errors import InputError


def _load(kind, split, directory=None, name='imagenet2012'):
    return load_source(kind, name=name, directory=directory and str(directory), split=split)


def test_an_unknown_kind_names_those_there_are():
    with pytest.raises(InputError, match="'zip'; there are tfds, folder, webdataset, digits"):
        _load('zip', 'train')


@pytest.mark.parametrize('kind', ['folder', 'tfds', 'webdataset'])
def test_data_that_is_neither_on_a_disk_nor_in_a_bucket_is_refused(kind):
    with pytest.raises(InputError, match=r'https://host/data .*give a path on a disk or gs://'):
        _load(kind, 'train', 'https://host/data')


# ---- Digits


def test_digits_are_scikit_learns_and_a_fifth_is_held_out():
    train, held_out = _load('digits', 'train'), _load('digits', 'eval')
    assert (len(train), len(held_out)) == (1437, 360)
    assert train.class_names == tuple('0123456789')
    decoded = [
        (np.asarray(Image.open(io.BytesIO(encoded))).tobytes(), label)
        for source in (train, held_out)
        for encoded, label in map(source.read, range(len(source)))
    ]
    digits = load_digits()
    pixels = np.rint(digits.images * 255 / 16).astype(np.uint8)
    expected = [(x.tobytes(), int(y)) for x, y in zip(pixels, digits.target, strict=True)]
    assert sorted(decoded) == sorted(expected)
    counts = np.bincount([held_out.read(i)[1] for i in range(360)])
    assert counts.min() >= 34  # A fifth of each class.


def test_digits_have_two_splits():
    with pytest.raises(InputError, match="'test'; there are train, eval"):
        _load('digits', 'test')


# ---- Folders


@pytest.fixture
def folder(tmp_path):
    for split, names in (('train', ('cat', 'dog', 'eel')), ('val', ('dog', 'eel'))):
        for name in names:
            path = tmp_path / split / name
            path.mkdir(parents=True)
            (path / 'b.jpg').write_bytes(f'{split} {name} b'.encode())
            (path / 'a.JPEG').write_bytes(f'{split} {name} a'.encode())
            (path / '.hidden.jpg').write_bytes(b'')
            (path / 'notes.txt').write_bytes(b'')
    (tmp_path / 'train' / '.git').mkdir()
    deep = tmp_path / 'train' / 'cat' / 'deep'
    deep.mkdir()
    (deep / 'c.png').write_bytes(b'train cat c')
    return tmp_path


def test_a_folder_has_sorted_classes_and_only_its_images(folder):
    source = _load('folder', 'train', folder)
    assert source.class_names == ('cat', 'dog', 'eel')
    examples = {source.read(i) for i in range(len(source))}
    expected = {(f'train {n} {f}'.encode(), k) for k, n in enumerate(source.class_names) for f in 'ab'}
    assert examples == expected | {(b'train cat c', 0)}
    assert source.describe(0).startswith(str(folder / 'train' / 'cat'))


def test_labels_of_another_split_are_those_of_train(folder):
    source = _load('folder', 'val', folder)
    assert source.class_names == ('cat', 'dog', 'eel')
    assert {source.read(i) for i in range(len(source))} == {
        (f'val {n} {f}'.encode(), k) for k, n in ((1, 'dog'), (2, 'eel')) for f in 'ab'
    }


def test_a_class_that_train_does_not_have_is_named(folder):
    shutil.copytree(folder / 'val' / 'dog', folder / 'val' / 'fox')
    with pytest.raises(InputError, match=r'val has classes that .*train has not: fox'):
        _load('folder', 'val', folder)


def test_what_is_missing_or_empty_is_named_with_the_layout_expected(folder, tmp_path):
    layout = r'expected .*/train/CLASS/\*\.jpg'
    with pytest.raises(InputError, match=f'nowhere is no folder; {layout}'):
        _load('folder', 'train', tmp_path / 'nowhere')
    with pytest.raises(InputError, match='test is no folder; expected'):
        _load('folder', 'test', folder)
    (tmp_path / 'empty' / 'train').mkdir(parents=True)
    with pytest.raises(InputError, match=f'train holds no folder of a class; {layout}'):
        _load('folder', 'train', tmp_path / 'empty')
    (folder / 'train' / 'asp').mkdir()
    with pytest.raises(InputError, match=f'asp holds no image; {layout}'):
        _load('folder', 'train', folder)
    with pytest.raises(InputError, match=r'needs data\.dir'):
        _load('folder', 'train')


def _touch(directory, *names):
    for name in names:
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_bytes(b'')


def test_files_of_other_types_are_counted_by_their_endings(folder):
    (notes,) = _load('folder', 'train', folder).warnings
    types = '.bmp, .gif, .jpeg, .jpg, .png, .webp'
    assert notes == f'{folder}/train: 3 files skipped, of other types than {types}: 3 .txt'
    val = folder / 'val'
    _touch(val / 'eel', 'c.tiff', 'more/D.TIFF', 'LICENSE', '.DS_Store', '.git/x.txt', 'folder.old/e.jpg')
    _touch(val / 'dog', *(f'{i}.{k}' for k in ('tiff', 'psd', 'raw', 'heic') for i in range(3)))
    (message,) = _load('folder', 'val', folder).warnings[:1]
    counts = '5 .tiff, 3 .heic, 3 .psd, 3 .raw, 2 .txt and 1 more'
    assert message == f'{val}: 17 files skipped, of other types than {types}: {counts}'
    for file in val.rglob('*.*'):
        if file.is_file() and file.suffix not in ('.jpg', '.JPEG'):
            file.unlink()
    one = f'{val}: 1 file skipped, of other types than {types}: 1 without an ending'
    assert _load('folder', 'val', folder).warnings[0] == one


def test_classes_without_an_image_are_named(folder):
    val = folder / 'val'
    (message,) = _load('folder', 'val', folder).warnings[1:]
    assert message == f'{val} has no image of 1 of the 3 classes: cat'
    shutil.rmtree(val / 'dog')
    _touch(val / 'dog', 'a.tiff')  # Nothing but what is not read.
    _touch(folder / 'train', *(f'x{i}/a.jpg' for i in range(5)))
    skipped, message = _load('folder', 'val', folder).warnings
    assert skipped.endswith(': 1 .tiff, 1 .txt')
    assert message == f'{val} has no image of 7 of the 8 classes: cat, dog, x0, x1, x2 and 2 more'


def test_data_in_order_gives_no_warning(folder):
    for file in folder.rglob('*.txt'):
        file.unlink()
    assert _load('folder', 'train', folder).warnings == ()
    assert _load('digits', 'eval').warnings == ()


# ---- TensorFlow Datasets


@pytest.fixture(scope='module', params=['tfrecord', 'array_record'])
def imagenet(request, tmp_path_factory):
    directory = tmp_path_factory.mktemp(request.param)
    tiny_imagenet.prepare(directory, train_images=60, file_format=request.param)
    return directory


@pytest.mark.parametrize(
    ('split', 'count'),
    [('train', 60), ('validation', 37), ('train[10:30]', 20), ('train[:10]+validation', 47)],
)
def test_a_prepared_set_gives_what_tfds_gives(imagenet, split, count):
    source = _load('tfds', split, imagenet)
    assert len(source) == count
    assert len(source.class_names) == 1000
    assert source.class_names[0] == 'n01440764'
    assert source.warnings == ()
    decoders = {'image': tfds.decode.SkipDecoding()}
    if 'array' in imagenet.name:
        reference = tfds.data_source('imagenet2012', data_dir=imagenet, split=split, decoders=decoders)
    else:
        reference = tfds.load('imagenet2012', data_dir=imagenet, split=split, decoders=decoders)
        reference = reference.as_numpy_iterator()
    expected = [(bytes(x['image']), int(x['label'])) for x in reference]
    assert [source.read(i) for i in range(count)] == expected
    assert 'imagenet2012-' in source.describe(count - 1)


def test_an_unknown_split_names_those_there_are(imagenet):
    for split in ('test', 'train[a:]'):
        with pytest.raises(InputError, match=r'no split .*there are train, validation'):
            _load('tfds', split, imagenet)


def test_a_shard_cut_short_or_missing_is_named(imagenet, tmp_path):
    copy = tmp_path / 'copy'
    shutil.copytree(imagenet / 'imagenet2012', copy / 'imagenet2012')
    (shard,) = copy.rglob('*-train.*-00000-of-00001')
    whole = shard.read_bytes()
    shard.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match=shard.name):
        _load('tfds', 'train', copy)
    shard.unlink()
    with pytest.raises(InputError, match=shard.name):
        _load('tfds', 'train', copy)


def test_an_unknown_set_names_the_nearest():
    with pytest.raises(InputError, match="'imagnet2012'; nearest: imagenet2012,"):
        _load('tfds', 'train', '/nowhere', name='imagnet2012')


def test_the_error_about_an_unprepared_set_gives_the_command(tmp_path):
    with pytest.raises(InputError, match=r'not prepared in .*ILSVRC2012_img_train\.tar .*tfds build'):
        _load('tfds', 'train', tmp_path)
    with pytest.raises(InputError, match=r'not prepared in .*tfds build cifar10 --data_dir='):
        _load('tfds', 'train', tmp_path, name='cifar10')
    assert not list(tmp_path.iterdir())


def test_a_set_without_class_labels_is_refused(tmp_path):
    features = tfds.features.FeaturesDict({'image': tfds.features.Image(shape=(4, 4, 3))})
    tfds.dataset_builders.store_as_tfds_dataset(
        name='unlabeled',
        version='1.0.0',
        features=features,
        split_datasets={'train': [('0', {'image': np.zeros((4, 4, 3), np.uint8)})]},
        data_dir=tmp_path,
        disable_shuffling=True,
    )
    with pytest.raises(InputError, match='no pair of image and class label'):
        _load('tfds', 'train', tmp_path, name='unlabeled')


def _with_sequences(directory, length, labels):
    sequence = tfds.features.Sequence(tfds.features.ClassLabel(names=['cat', 'dog', 'eel']), length=length)
    image = tfds.features.Image(shape=(4, 4, 3), encoding_format='png')
    pixels = np.zeros((4, 4, 3), np.uint8)
    tfds.dataset_builders.store_as_tfds_dataset(
        name='sequences',
        version='1.0.0',
        features=tfds.features.FeaturesDict({'image': image, 'label': sequence}),
        split_datasets={'train': [(i, {'image': pixels, 'label': x}) for i, x in enumerate(labels)]},
        data_dir=directory,
        disable_shuffling=True,
    )
    (path,) = directory.rglob('dataset_info.json')
    keys = {'tuple': {'items': [{'featureKey': 'image'}, {'featureKey': 'label'}]}}
    path.write_text(json.dumps({**json.loads(path.read_text()), 'supervisedKeys': keys}))
    return _load('tfds', 'train', directory, name='sequences')


@pytest.mark.parametrize(('length', 'most'), [(2, 2), (None, 256)])
def test_sequences_of_labels_are_sets(tmp_path, length, most):
    labels = [[2, 0], [1, 1]] if length else [[2, 0], [], [1]]
    source = _with_sequences(tmp_path, length, labels)
    assert source.label_shape == (most,)
    for index, expected in enumerate(labels):
        found = source.read(index)[1]
        assert found.dtype == np.int32
        assert found.tolist() == expected + [-1] * (most - len(expected))


def test_more_labels_than_an_example_may_have_are_refused(tmp_path):
    source = _with_sequences(tmp_path, None, [[0], [1] * 257])
    assert source.read(0)[1].tolist() == [0] + [-1] * 255
    with pytest.raises(InputError, match=r'^sequences train #1 .* has 257 labels; 256 is the most'):
        source.read(1)
