"""WebDataset's tars: what is read, the index of each, and what is wrong with some."""

import os
import re
import tarfile

import numpy as np
import pytest
import tars
from etils import epath

from nfnets.data import tar_index
from nfnets.data.load import load_source
from nfnets.data.source import check_same_classes
from nfnets.data.tar_members import members
from nfnets.data.webdataset import find_tars
from nfnets.errors import InputError

FORMS = {'ustar': tarfile.USTAR_FORMAT, 'gnu': tarfile.GNU_FORMAT, 'pax': tarfile.PAX_FORMAT}


def _load(directory, split='train'):
    return load_source('webdataset', name='', directory=str(directory), split=split)


def _examples(source):
    return [source.read(i) for i in range(len(source))]


@pytest.fixture
def data(tmp_path):
    """Two tars of six digits each, and the classes."""
    tars.write_digits(tmp_path, 'train', shards=2, examples_per_shard=6)
    (tmp_path / 'classes.txt').write_text('\n'.join(f'digit {i}' for i in range(10)) + '\n')
    return tmp_path


@pytest.mark.parametrize('form', FORMS)
def test_members_are_those_that_pythons_tarfile_finds(form, tmp_path):
    deep = '/'.join(['a rather long name of a folder'] * 4)
    files = [('a.cls', b'1'), ('sub/b.webp', b'x' * 512), ('empty.json', b''), (f'{deep}/c.jpg', b'y' * 513)]
    if form != 'ustar':
        files += [('n' * 150 + '.webp', b'long'), ('näme.cls', b'2'), ('d' * 300 + '/e.webp', b'longer')]
    path = tmp_path / 'x.tar'
    tars.write_tar(path, files, FORMS[form], mtime=1.5)
    with tarfile.open(path, 'a', format=FORMS[form]) as tar:
        for name, kind in (('folder', tarfile.DIRTYPE), ('link', tarfile.SYMTYPE)):
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, 'a.cls'
            tar.addfile(member)
    content = path.read_bytes()
    with tarfile.open(path) as tar:
        expected = [(m.name, m.offset_data, m.size) for m in tar if m.isreg()]
    assert [name for name, *_ in expected] == [name for name, _ in files]
    found = members('x.tar', len(content), lambda begin, length: content[begin : begin + length])
    assert list(found) == expected


def test_examples_are_images_with_labels_of_either_kind(tmp_path):
    tars.write_tar(
        tmp_path / 'train-0.tar',
        [
            ('__meta__.txt', b'passed over'),
            ('dir/a.cls', b'3\n'),
            ('dir/a.json', b'{"label": 9}'),  # The first of them counts.
            ('dir/._a.webp', b'of a Mac'),
            ('dir/a.webp', b'A'),
            ('b.JPEG', b'B'),
            ('b.json', b'{"label": 5, "width": 3}'),
            ('b.seg.png', b'another ending'),
            ('c.json', b'{"caption": "no image"}'),
        ],
    )
    tars.write_tar(tmp_path / 'train-1.tar', [('a.png', b'C' * 5000), ('a.json', b'{"cls": [0]}')])
    source = _load(tmp_path)
    assert _examples(source) == [(b'A', 3), (b'B', 5), (b'C' * 5000, 0)]
    assert all(type(label) is int for _, label in _examples(source))
    assert source.label_shape == ()
    assert source.class_names == tuple('012345')
    assert source.name(0) == 'dir/a.webp'
    assert source.describe(2) == f'a.png in {tmp_path}/train-1.tar'
    (warning,) = source.warnings
    assert warning == f"data.dir={tmp_path} has no classes.txt, one class a line: those of 'train' are 0 to 5"


def test_sets_of_labels_are_padded_to_the_longest(tmp_path):
    tars.write_tar(tmp_path / 'train-0.tar', [('a.webp', b'A'), ('a.cls', b'7, 2 7\n')])
    tars.write_tar(
        tmp_path / 'train-1.tar',
        [('b.webp', b'B'), ('b.json', b'{"labels": [4, 0, 9]}'), ('c.webp', b'C'), ('c.cls', b'1')],
    )
    source = _load(tmp_path)
    assert source.label_shape == (3,)
    labels = np.stack([label for _, label in _examples(source)])
    assert labels.dtype == np.int32
    np.testing.assert_array_equal(labels, [[2, 7, -1], [0, 4, 9], [1, -1, -1]])


def test_the_splits_of_a_run_have_the_same_classes(data):
    train = _load(data)
    _check_same(train, train)
    (data / 'classes.txt').unlink()
    tars.write_tar(data / 'val.tar', [('a.webp', b''), ('a.cls', b'3')])
    numbered, fewer = _load(data), _load(data, 'val')
    _check_same(numbered, fewer)
    with pytest.raises(InputError, match=r"^label 4 of B is the class '4', and A does not have it$"):
        _check_same(fewer, numbered)
    with pytest.raises(InputError, match=r"^label 0 of B is the class '0', and A has 'digit 0' there$"):
        _check_same(train, numbered)


def _check_same(a, b):
    check_same_classes(a.class_names, 'A', b.class_names, 'B')


# ---- The index


@pytest.fixture
def made(monkeypatch):
    """The names of the tars that are read for an index."""
    names = []
    make = tar_index._make
    monkeypatch.setattr(tar_index, '_make', lambda tar, size: names.append(tar.name) or make(tar, size))
    return names


def test_a_tar_is_read_once_and_its_index_is_mapped(data, made):
    first = _examples(_load(data))
    pixels, labels = tars.digits()
    assert first == [(tars.encode(x), int(y)) for x, y in zip(pixels[:12], labels[:12], strict=True)]
    assert sorted(made) == ['digits-train-0000.tar', 'digits-train-0001.tar']
    source = _load(data)
    assert _examples(source) == first
    assert len(made) == 2
    assert source.warnings == ()
    assert source.class_names[3] == 'digit 3'
    assert not any(array.flags.owndata for index in source._indices for array in index[:4])


def test_an_index_has_20_bytes_an_example(tmp_path):
    files = [(f'{i}.{ending}', b'1') for i in range(1000) for ending in ('cls', 'png')]
    tars.write_tar(tmp_path / 'train.tar', files)
    _load(tmp_path)
    assert 20 * 1000 <= (tmp_path / 'train.tar.index').stat().st_size < 20 * 1000 + 2000


def test_a_tar_that_has_changed_is_read_anew_and_that_is_said(data, made):
    _load(data)
    tar = data / 'digits-train-0001.tar'
    tars.write_tar(tar, [('a.cls', b'9'), ('a.webp', b'another')])
    source = _load(data)
    assert source.read(6) == (b'another', 9)
    assert source.warnings == (
        f'data.dir={data}: digits-train-0001.tar had changed since the index was made, and was read anew',
    )
    content = tar.read_bytes().replace(b'another', b'changed')
    tar.write_bytes(content)
    os.utime(tar, ns=(1, 1))  # Older than its index, even.
    assert _load(data).read(6) == (b'changed', 9)
    assert made[2:] == ['digits-train-0001.tar'] * 2


def test_an_index_that_was_interrupted_goes_on(data, made):
    tar = data / 'digits-train-0001.tar'
    whole = tar.read_bytes()
    tar.write_bytes(whole[:5000])
    with pytest.raises(InputError, match=r'0001\.tar is cut off: digit'):
        _load(data)
    tar.write_bytes(whole)
    made.clear()
    assert len(_load(data)) == 12
    assert made == ['digits-train-0001.tar']


def test_an_index_that_is_damaged_is_made_anew(data, made):
    _load(data)
    index = data / 'digits-train-0000.tar.index'
    whole = index.read_bytes()
    for content in (whole[: len(whole) // 2], b'', b'no index at all'):
        index.write_bytes(content)
        made.clear()
        assert len(_load(data)) == 12
        assert made == ['digits-train-0000.tar']
    assert index.read_bytes() == whole


def test_where_the_data_may_not_be_written_indices_lie_in_the_cache(data, made, monkeypatch, tmp_path):
    replacing = tar_index.replacing

    def refuse(path):
        if path.parent == data:
            raise PermissionError('read-only')
        return replacing(path)

    monkeypatch.setattr(tar_index, 'replacing', refuse)
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
    assert len(_load(data)) == len(_load(data)) == 12
    assert len(made) == 2
    assert not list(data.glob('*.index'))
    assert len(list((tmp_path / 'cache/nfnets/tars').iterdir())) == 2


def test_a_tar_replaced_under_a_run_is_no_image_of_another(data):
    source = _load(data)
    tars.write_tar(data / 'digits-train-0000.tar', [('a.cls', b'3'), ('a.webp', b'x' * 20_000)])
    with pytest.raises(OSError, match='was the tar replaced'):
        source.read(3)


# ---- Splits


@pytest.mark.parametrize(
    ('split', 'numbers'),
    [
        ('train', [1, 2, 3, 10]),
        ('set-train-{0001..0003}.tar', [1, 2, 3]),
        ('set-train-{0003,0001}.tar', [3, 1]),
        ('set-train-00{01..02}.tar', [1, 2]),
        ('*-train-000?.tar', [1, 2, 3]),
        ('set-train-0010.tar', [10]),
        ('{*-0003,*-train-000?}.tar', [3, 1, 2]),  # Each once.
    ],
)
def test_a_split_is_a_pattern_of_names(split, numbers, tmp_path):
    for name in ('train-0001', 'train-0002', 'train-0003', 'train-0010', 'val-0000'):
        (tmp_path / f'set-{name}.tar').touch()
    (tmp_path / 'set-train-0001.tar.index').touch()
    found = find_tars(epath.Path(tmp_path), split)
    assert found == [epath.Path(tmp_path, f'set-train-{number:04}.tar') for number in numbers]


# ---- What is wrong


def test_splits_that_are_not_there_are_named(data):
    there = 'there are digits-train-0000.tar, digits-train-0001.tar'
    with pytest.raises(InputError, match=rf"no tar \*val\*\.tar of the split 'val'; {there}"):
        _load(data, 'val')
    with pytest.raises(
        InputError, match=r'no tar digits-train-0002\.tar, digits-train-0003\.tar of the split'
    ):
        _load(data, 'digits-train-{0000..0003}.tar')
    with pytest.raises(InputError, match='nowhere is no folder; expected one with tars'):
        _load(data / 'nowhere')
    (data / 'none').mkdir()
    with pytest.raises(InputError, match=r'none holds no tar .* of the split .*, nor any other'):
        _load(data / 'none')
    with pytest.raises(InputError, match=r'needs data\.dir'):
        load_source('webdataset', name='', directory=None, split='train')


IMAGE = ('a.webp', b'image')


@pytest.mark.parametrize(
    ('files', 'message'),
    [
        ([IMAGE], r'has no label of a\.webp: it holds neither a\.cls nor a\.json'),
        ([IMAGE, ('b.cls', b'1')], r'has no label of a\.webp'),
        ([('b.cls', b'1')], r'has no image of b\.cls'),
        ([IMAGE, ('a.cls', b'1'), ('a.jpg', b'')], r'two images of one key: a\.webp and a\.jpg'),
        ([IMAGE, ('a.cls', b'cat')], r"a\.cls in .*train\.tar holds no labels: .*b'cat'"),
        ([IMAGE, ('a.cls', b'\n')], r'a\.cls in .*holds the labels \[\]: give one or more whole numbers'),
        (
            [IMAGE, ('a.cls', b'-1')],
            r'holds the labels \[-1\]: give one or more whole numbers from 0 to 999999',
        ),
        ([IMAGE, ('a.cls', b'4000000000')], r'holds the labels \[4000000000\]'),
        ([IMAGE, ('a.json', b'{"label": "cat"}')], r'a\.json in .*holds no labels: its label is "cat"'),
        ([IMAGE, ('a.json', b'{"labels": [true]}')], r'its labels is \[true\]'),
        ([IMAGE, ('a.json', b'{"text": 1}')], 'it has no field label, labels, cls'),
        ([IMAGE, ('a.json', b'[1]')], 'it has no field label'),
        ([IMAGE, ('a.json', b'{')], 'holds no labels: Expecting'),
        ([('a.txt', b'1')], "no tar of the split 'train' in data.dir=.* holds an image"),
    ],
)
def test_what_is_wrong_in_a_tar_is_one_line(files, message, tmp_path):
    tars.write_tar(tmp_path / 'train.tar', files)
    with pytest.raises(InputError, match=message) as caught:
        _load(tmp_path)
    assert '\n' not in str(caught.value)
    assert str(tmp_path) in str(caught.value)


def test_a_tar_that_is_damaged_or_cut_off_is_named(data):
    tar = data / 'digits-train-0000.tar'
    whole = tar.read_bytes()
    with tarfile.open(tar) as opened:
        last = opened.getmembers()[-1]
    cut = [last.offset_data + 3, last.offset + 100, last.offset]  # In a content, in a header, between files.
    for size in cut:
        tar.write_bytes(whole[:size])
        with pytest.raises(InputError, match=f'{re.escape(str(tar))} is cut off'):
            _load(data)
    tar.write_bytes(whole[: last.offset + 5] + b'?' + whole[last.offset + 6 :])
    with pytest.raises(InputError, match=f'is damaged: there is no header at byte {last.offset}'):
        _load(data)
    tar.write_bytes(b'something else' * 100)
    with pytest.raises(InputError, match='is no tar'):
        _load(data)
    assert not (data / f'{tar.name}.index').exists()


def test_labels_beyond_the_classes_are_named(data):
    (data / 'classes.txt').write_text('a\nb\nc\n')
    _, labels = tars.digits()
    first = int(np.argmax(labels[:12] == 9))
    with pytest.raises(InputError, match=rf'digit_{first:04}\.webp in .* has the label 9, and .*has 3 lines'):
        _load(data)
    (data / 'classes.txt').write_text('a\n\nb\n')
    with pytest.raises(InputError, match=r'classes\.txt must name a class in each line, and line 2 is empty'):
        _load(data)
