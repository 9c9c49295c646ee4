"""Random access to records in many files."""

import resource
import struct

import pytest
import tensorflow as tf
from array_record.python.array_record_module import ArrayRecordWriter

from nfnets.data.records import ArrayRecords, Shard, TFRecords
from nfnets.errors import InputError


def _contents(shard, count=3):
    return [f'{shard}/{i}'.encode() * (i + 1) for i in range(count)]


def _tfrecord(path, contents):
    with tf.io.TFRecordWriter(str(path)) as writer:
        for content in contents:
            writer.write(content)


def _array_record(path, contents):
    writer = ArrayRecordWriter(str(path), 'group_size:1')
    for content in contents:
        writer.write(content)
    writer.close()


@pytest.mark.parametrize(('write', 'read'), [(_tfrecord, TFRecords), (_array_record, ArrayRecords)])
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
    assert [records[i] for i in range(6)] == expected
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
        assert [records[i] for i in range(300)] == [_contents(k, 1)[0] for k in range(300)]
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


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
