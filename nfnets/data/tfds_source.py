"""Image-classification sets that TensorFlow Datasets has prepared, read without TensorFlow's pipeline.

Nothing is ever downloaded: the set must have been prepared before.
"""

import difflib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from etils import epath

from nfnets.data.bucket_array_records import BucketArrayRecords
from nfnets.data.records import ArrayRecords, Records, Shard
from nfnets.data.source import Example, Source, label_set
from nfnets.data.tensorflow import tf
from nfnets.data.tfrecords import TFRecords
from nfnets.errors import InputError
from nfnets.files import is_local

# Labels of an example, where the set does not say how many there are: 1 kB each.
_MOST_LABELS = 256
_FILE_NAME = 'file_name'  # Of the features of TFDS's sets that were made of files.
_MANUAL = {  # What must be there before TFDS prepares a set.
    'imagenet2012': 'ILSVRC2012_img_train.tar and ILSVRC2012_img_val.tar',
    'imagenet2012_real': 'ILSVRC2012_img_val.tar',
}


class TfdsSource(Source):
    """One split of a prepared data set with an image and a class label, or a set of them, an example."""

    def __init__(self, name: str, directory: str | None, split: str):
        """Reads the set's description and where its records lie.

        Args:
          name: as in TFDS's catalog, such as 'imagenet2012', perhaps with ':VERSION'.
          directory: TFDS's data_dir; None for TFDS's own default.
          split: in TFDS's syntax, such as 'train', 'train[10000:]', 'validation'.

        Raises:
          InputError: the set is unknown, not prepared, damaged, of another kind, or has no such split.
        """
        builder = _builder(name, directory)
        self._name = f'{name} {split}'
        info = builder.info
        self._image, self._label = _features(name, info)
        label = info.features[self._label]
        is_set = isinstance(label, tfds.features.Sequence)
        self.class_names = tuple((label.feature if is_set else label).names)
        self.label_shape: tuple[int, ...] = (label.shape[0] or _MOST_LABELS,) if is_set else ()
        self.warnings: tuple[str, ...] = ()
        self._records = _records(builder, split)

    def __len__(self) -> int:
        return len(self._records)

    def read(self, index: int) -> Example:
        return self.start(index)()

    def start(self, index: int) -> Callable[[], Example]:
        record = self._records.start(index)
        return lambda: self._as_example(index, read_features(record()))

    def describe(self, index: int) -> str:
        return f'{self._name} #{index} ({self._records.describe(index)})'

    def name(self, index: int) -> str:
        names = read_features(self._records.start(index)())[_FILE_NAME].bytes_list.value
        return names[0].decode() if names else self.describe(index)

    def _as_example(self, index: int, features: Mapping[str, Any]) -> Example:
        labels = features[self._label].int64_list.value
        label = labels[0] if not self.label_shape else self._as_set(index, labels)
        return features[self._image].bytes_list.value[0], label

    def _as_set(self, index: int, labels: Sequence[int]) -> np.ndarray:
        (most,) = self.label_shape
        if len(labels) > most:
            raise InputError(f'{self.describe(index)} has {len(labels)} labels; {most} is the most')
        return label_set(labels, most)


def read_features(record: bytes) -> Mapping[str, Any]:
    """The features of a serialized example, by name."""
    return tf.train.Example.FromString(record).features.feature


def _builder(name: str, directory: str | None) -> tfds.core.DatasetBuilder:
    try:
        builder = tfds.builder(name, data_dir=directory, try_gcs=False)
    except tfds.core.registered.DatasetNotFoundError as error:
        known = sorted(set(tfds.list_builders(with_community_datasets=False)))
        near = difflib.get_close_matches(name, known, n=3) or known[:3]
        raise InputError(
            f'unknown data.name {name!r}; nearest: {", ".join(near)}; all {len(known)}: '
            'python -c "import tensorflow_datasets as t; print(*t.list_builders())"'
        ) from error
    # No such version or builder config, or whatever a bucket answers.
    except (AssertionError, ValueError, RuntimeError) as error:
        raise InputError(f'data.name={name}: {error}') from error
    if not builder.info.splits:
        base = name.split(':')[0]
        # The folder of the data set's own name, config and version is below the data_dir.
        data_dir = directory or str(epath.Path(builder.data_dir).parents[1 + base.count('/')])
        first = f'put {_MANUAL[base]} into {data_dir}/downloads/manual and ' if base in _MANUAL else ''
        raise InputError(
            f'data.name={name} is not prepared in data.dir={data_dir}; {first}run '
            f'`tfds build {base} --data_dir={data_dir} --file_format=array_record`'
        )
    return builder


def _features(name: str, info: tfds.core.DatasetInfo) -> tuple[str, str]:
    keys: Any = info.supervised_keys
    if keys and len(keys) == 2:
        image, label = keys
        given = info.features[label]
        given = given.feature if isinstance(given, tfds.features.Sequence) else given
        is_image = isinstance(info.features[image], tfds.features.Image)
        if is_image and isinstance(given, tfds.features.ClassLabel):
            return image, label
    raise InputError(f'data.name={name} has no pair of image and class label: supervised keys {keys}')


def _records(builder: tfds.core.DatasetBuilder, split: str) -> Records:
    splits = builder.info.splits
    try:
        instructions = splits[split].file_instructions
    except (KeyError, ValueError, AssertionError) as error:
        raise InputError(
            f'data.name={builder.info.name} has no split {split!r}; there are '
            f'{", ".join(splits)}, and parts of them such as {next(iter(splits))}[:90%]'
        ) from error
    shards = [Shard(epath.Path(i.filename), i.skip, i.take, i.examples_in_shard) for i in instructions]
    is_array_record = builder.info.file_format is tfds.core.FileFormat.ARRAY_RECORD
    return open_records('array_record' if is_array_record else 'tfrecord', shards)


def open_records(file_format: str, shards: Sequence[Shard]) -> Records:
    """The records of shards, 'array_record' or 'tfrecord', that are all on a disk or all in a bucket."""
    if file_format == 'tfrecord':
        return TFRecords(shards)
    local = all(is_local(shard.path) for shard in shards)
    return ArrayRecords(shards) if local else BucketArrayRecords(shards)
