"""The record files that `scripts/benchmark.py input --against bucket` reads."""

import itertools
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from array_record.python.array_record_module import ArrayRecordWriter
from etils import epath

from nfnets.data.records import Records, Shard
from nfnets.data.source import Example, Source
from nfnets.data.tensorflow import tf
from nfnets.data.tfds_source import open_records, read_features
from nfnets.data.tfrecords import write_index
from nfnets.planning.core_rate import make_images

FORMS = ('array_record', 'tfrecord')
_SHARDS, _RECORDS = 16, 96  # Of each form; records of each shard.


class Examples(Source):
    """A source of serialized examples, as TFDS writes them."""

    warnings: tuple[str, ...] = ()
    class_names: tuple[str, ...] = ('0',)

    def __init__(self, records: Records):
        self._records = records

    def __len__(self) -> int:
        return len(self._records)

    def read(self, index: int) -> Example:
        return self.start(index)()

    def start(self, index: int) -> Callable[[], Example]:
        record = self._records.start(index)
        return lambda: (read_features(record())['image'].bytes_list.value[0], 0)

    def describe(self, index: int) -> str:
        return self._records.describe(index)


def write(directory: Path) -> None:
    """Writes both forms of the same examples, in shards, the TFRecords with their indices."""
    with tempfile.TemporaryDirectory() as images:
        make_images(Path(images))
        encoded = [file.read_bytes() for file in sorted(Path(images).rglob('*.jpg'))]
    examples = itertools.cycle([_example(image) for image in encoded])
    for number in range(_SHARDS):
        records = list(itertools.islice(examples, _RECORDS))
        writer = ArrayRecordWriter(str(_shard(directory, 'array_record', number)), 'group_size:1')
        path = _shard(directory, 'tfrecord', number)
        with tf.io.TFRecordWriter(str(path)) as tfrecords:
            for record in records:
                writer.write(record)
                tfrecords.write(record)
        writer.close()
        write_index(path, np.cumsum([0, *(len(record) + 16 for record in records)]))


def _example(image: bytes) -> bytes:
    features = {
        'image': tf.train.Feature(bytes_list=tf.train.BytesList(value=[image])),
        'label': tf.train.Feature(int64_list=tf.train.Int64List(value=[0])),
    }
    return tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString()


def _shard(place: str | Path, form: str, number: int) -> epath.Path:
    return epath.Path(place) / f'{form}-{number:05d}-of-{_SHARDS:05d}'


def open_source(place: str, form: str) -> Source:
    """The examples of a form in a directory or a bucket."""
    shards = [Shard(_shard(place, form, number), 0, _RECORDS, _RECORDS) for number in range(_SHARDS)]
    return Examples(open_records(form, shards))
