"""Folders with tables of labels, and the errors about tables that cannot be used."""

import numpy as np
import pytest

from nfnets.data.load import load_source
from nfnets.errors import InputError


def _load(split, directory):
    return load_source('folder', name='', directory=str(directory), split=split)


@pytest.fixture
def tables(tmp_path):
    for file in ('train/1.jpg', 'train/deep/2.PNG', 'other/3.gif', 'val/4.jpg'):
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).write_bytes(file.encode())
    rows = 'train/1.jpg,"dog; ""a, b"""', 'train/deep/2.PNG,cat;dog;eel;cat', '', 'other/3.gif,'
    (tmp_path / 'train.csv').write_text('\n'.join(['\ufefffile,labels', *rows]), 'utf-8')
    (tmp_path / 'val.csv').write_bytes(b'file,labels\r\nval/4.jpg,eel\r\n')
    return tmp_path


def test_every_row_is_an_image_with_a_set_of_the_classes_of_train(tables):
    source = _load('train', tables)
    assert source.class_names == ('"a, b"', 'cat', 'dog', 'eel')
    assert source.label_shape == (3,)
    examples = [source.read(i) for i in range(len(source))]
    assert [encoded for encoded, _ in examples] == [b'train/1.jpg', b'train/deep/2.PNG', b'other/3.gif']
    np.testing.assert_array_equal([label for _, label in examples], [[2, 0, -1], [1, 2, 3], [-1, -1, -1]])
    assert source.describe(1) == f'{tables}/train/deep/2.PNG'
    assert source.warnings == (f'{tables}/train.csv: images without a label: 1 of 3',)
    held_out = _load('val', tables)
    assert held_out.class_names == source.class_names
    assert held_out.read(0)[1].tolist() == [3]
    assert held_out.warnings == (f'{tables}/val.csv has no image of 3 of the 4 classes: "a, b", cat, dog',)


@pytest.mark.parametrize(
    ('table', 'message'),
    [
        ('val/4.jpg,eel', r'val\.csv line 1 must be file,labels'),
        ('file,labels\n', r'val\.csv names no image'),
        ('file,labels\nval/4.jpg', r'val\.csv line 2 has 1 cells: .* as in train/1\.jpg,cat;dog'),
        ('file,labels\n\nval/4.jpg,cat,dog', r'val\.csv line 3 has 3 cells'),
        ('file,labels\nval/4.jpg,owl;eel;fox', r'val\.csv line 2: .*train\.csv has no class fox, owl'),
        ('file,labels\nval/4.jpg,\nval/4.jpg,eel', r'val\.csv names files more than once: val/4\.jpg'),
        ('file,labels\nval/4.txt,', r"val\.csv line 2: 'val/4\.txt' does not end in \.bmp, "),
        (
            'file,labels\nval/4.jpg,\nval/5.jpg,\ngone/6.jpg,',
            r'val\.csv names files that are not in .*: val/5\.jpg, gone/6\.jpg',
        ),
        ('file,labels\nval/4.jpg,"eel', r'val\.csv is no table: unexpected end of data'),
        (b'file,labels\n\xff.jpg,', r"val\.csv is no table: 'utf-8' codec"),
    ],
)
def test_a_broken_table_is_named_with_its_line(tables, table, message):
    (tables / 'val.csv').write_bytes(table if isinstance(table, bytes) else table.encode())
    with pytest.raises(InputError, match=message):
        _load('val', tables)


def test_every_split_needs_its_table(tables):
    with pytest.raises(InputError, match=r'test\.csv is missing: .* for another split'):
        _load('test', tables)
    (tables / 'train.csv').write_text('file,labels\ntrain/1.jpg,')
    with pytest.raises(InputError, match=r'train\.csv names no label'):
        _load('train', tables)
