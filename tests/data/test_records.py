"""Random access to records in many files."""

import os
import resource
import struct

import numpy as np
import pytest
from array_record.python.array_record_module import ArrayRecordWriter

from nfnets.data.bucket_array_records import BucketArrayRecords
from nfnets.data.records import ArrayRecords, Shard
from nfnets.data.tensorflow import tf
from nfnets.data.tfrecords import TFRecords
from nfnets.errors import InputError


def _contents(shard, count=3):
    return [f'{shard}/{i}'.encode() * (i + 1) for i in range(count)]


def _tfrecord(path, contents):
    with tf.io.TFRecordWriter(str(path)) as writer:
        for content in contents:
            writer.write(content)


def _array_record(path, contents, options='group_size:1'):
    writer = ArrayRecordWriter(str(path), options)
    for content in contents:
        writer.write(content)
    writer.close()


@pytest.mark.parametrize(
    ('write', 'read'),
    [(_tfrecord, TFRecords), (_array_record, ArrayRecords), (_array_record, BucketArrayRecords)],
)
def test_records_of_parts_of_files_are_found(tmp_path, write, read):
    for k in range(3):
        write(tmp_path / str(k), _contents(k))
    shards = [
        Shard(tmp_path / '0', 1, 2, 3),
        Shard(tmp_path / '1', 0, 3, 3),
        Shard(tmp_path / '2', 0, 1, 3),
    ]
    records = read(shards)
    assert len(records) == 6
    expected = _contents(0)[1:] + _contents(1) + _contents(2)[:1]
    assert [records.start(i)() for i in range(6)] == expected
    assert records.describe(1) == f'record 2 of {tmp_path / "0"}'
    assert records.describe(5) == f'record 0 of {tmp_path / "2"}'


@pytest.mark.parametrize(('write', 'read'), [(_tfrecord, TFRecords), (_array_record, ArrayRecords)])
def test_more_files_than_a_process_may_usually_open(tmp_path, write, read):
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, limits[1]))
    try:
        for k in range(300):
            write(tmp_path / str(k), _contents(k, 1))
        records = read([Shard(tmp_path / str(k), 0, 1, 1) for k in range(300)])
        assert [records.start(i)() for i in range(300)] == [_contents(k, 1)[0] for k in range(300)]
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


@pytest.fixture
def limits(monkeypatch):
    """Limits of open files, as a list to change, instead of this process's own."""
    limits = [256, resource.RLIM_INFINITY]
    monkeypatch.setattr(resource, 'getrlimit', lambda _: tuple(limits))
    monkeypatch.setattr(resource, 'setrlimit', lambda _, new: limits.__setitem__(slice(None), new))
    return limits


def _open_300(tmp_path):
    _array_record(tmp_path / 'x', _contents(0, 1))
    return ArrayRecords([Shard(tmp_path / 'x', 0, 1, 1)] * 300)


def test_no_more_open_files_are_asked_for_than_needed(tmp_path, limits):
    _open_300(tmp_path)
    assert 256 + 300 < limits[0] < 2000
    assert limits[1] == resource.RLIM_INFINITY
    for enough in ([100_000, 200_000], [resource.RLIM_INFINITY] * 2):
        limits[:] = enough
        _open_300(tmp_path)
        assert limits == enough
    limits[:] = [256, 450]
    _open_300(tmp_path)
    assert limits == [450, 450]


def test_a_limit_of_open_files_that_is_too_low_is_named(tmp_path, limits, monkeypatch):
    limits[:] = [256, 300]
    with pytest.raises(InputError, match='300 shards need as many open files, and this system allows 300'):
        _open_300(tmp_path)

    def refuse(_, new):
        raise ValueError('current limit exceeds maximum limit')

    monkeypatch.setattr(resource, 'setrlimit', refuse)
    limits[:] = [256, resource.RLIM_INFINITY]
    message = r'300 shards need .* allows 256 and refuses \d+: current limit exceeds maximum limit; prepare'
    with pytest.raises(InputError, match=message):
        _open_300(tmp_path)


def test_a_system_that_takes_no_advice_on_how_files_are_read(tmp_path, monkeypatch):
    monkeypatch.delattr(os, 'posix_fadvise')
    _tfrecord(tmp_path / 'x', _contents(0))
    assert len(TFRecords([Shard(tmp_path / 'x', 0, 3, 3)])) == 3


def test_a_tfrecord_whose_end_is_not_that_of_its_last_record_is_damaged(tmp_path):
    path = tmp_path / 'x'
    _tfrecord(path, _contents(0))
    whole = path.read_bytes()
    for damaged in (whole[:-1], whole + b'?', whole[: -len(_contents(0)[2]) - 16]):
        path.write_bytes(damaged)
        with pytest.raises(InputError, match=r'x is damaged: .* 3 records are expected'):
            TFRecords([Shard(path, 0, 3, 3)])
    path.write_bytes(struct.pack('<QI', 2**60, 0) + whole)
    with pytest.raises(InputError, match='x is damaged'):
        TFRecords([Shard(path, 0, 3, 3)])


@pytest.fixture(scope='module')
def long_contents():
    """Some longer than the blocks of a file, 64 KiB; some that compress; one empty."""
    rng = np.random.default_rng(0)
    sizes = [0, *rng.integers(1, 200_000, 40).tolist()]
    return [rng.bytes(n) if n % 2 else b'a' * n for n in sizes]


@pytest.mark.parametrize(
    'options',
    [
        'group_size:1',
        'group_size:7',
        'group_size:1,uncompressed',
        'group_size:3,brotli',
        'group_size:2,snappy',
    ],
)
def test_array_records_are_found_by_parts_of_the_file_alone(options, tmp_path, long_contents):
    _array_record(tmp_path / 'x', long_contents, options)
    records = BucketArrayRecords([Shard(tmp_path / 'x', 0, 41, 41)])
    assert [records.start(i)() for i in range(41)] == long_contents


def test_array_records_of_an_unknown_or_damaged_form_are_named(tmp_path, long_contents):
    path = tmp_path / 'x'
    _array_record(path, long_contents, 'group_size:2,transpose')
    records = BucketArrayRecords([Shard(path, 0, 41, 41)])
    with pytest.raises(OSError, match="its kind is 't', and only 'r' is read"):
        records.start(3)()
    _array_record(path, long_contents)
    with pytest.raises(InputError, match='x is damaged: it holds 41 records, and 40 are expected'):
        BucketArrayRecords([Shard(path, 0, 40, 40)])
    whole = path.read_bytes()
    offsets = BucketArrayRecords([Shard(path, 0, 41, 41)])._indices[0].offsets
    rng = np.random.default_rng(0)
    for damaged in (b'', whole[:100], whole[: -(1 << 16)], whole[:-1000], rng.bytes(len(whole))):
        path.write_bytes(damaged)
        with pytest.raises(InputError, match='x cannot be opened: '):
            BucketArrayRecords([Shard(path, 0, 41, 41)])
    path.write_bytes(whole)
    records = BucketArrayRecords([Shard(path, 0, 41, 41)])
    path.write_bytes(whole[: offsets[5]] + bytes(100) + whole[offsets[5] + 100 :])
    assert records.start(4)() == long_contents[4]
    with pytest.raises(OSError, match=f'the chunk at byte {offsets[5]} is damaged'):
        records.start(5)()


def test_a_tfrecord_file_that_was_replaced_since_it_was_indexed_is_noticed(tmp_path):
    _tfrecord(tmp_path / 'x', [b'abc', b'defgh', b'ij'])
    records = TFRecords([Shard(tmp_path / 'x', 0, 3, 3)])
    _tfrecord(tmp_path / 'x', [b'abcd', b'efgh', b'ij'])
    assert records.start(2)() == b'ij'
    with pytest.raises(OSError, match='does not begin where the index says'):
        records.start(1)()
