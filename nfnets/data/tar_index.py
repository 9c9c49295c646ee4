"""Where the images of a tar begin, how long they are and their labels: read once, then kept beside the tar.

An index is an Arrow file, TAR.index, that is mapped into memory: 20 bytes an example with one label, 264 MB
for ImageNet-21k's 13,151,276. It knows the size of its tar and when that was changed, and is made anew when
they are others. Where it cannot be written beside the tar it lies in the cache.
"""

import contextlib
import hashlib
import json
import os
import random
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import NamedTuple

import jax
import numpy as np
import pyarrow as pa
from etils import epath
from tqdm import tqdm

from nfnets.data.ranges import read_range, reading_on
from nfnets.data.tar_examples import tar_examples
from nfnets.files import failure, file_errors, is_local, replacing, why
from nfnets.host import cache_directory

_THREADS = 32
_ABOUT = b'nfnets.1'  # Of this form of an index.


class TarIndex(NamedTuple):
    """The examples of one tar.

    Attributes:
      begins: of the images, bytes; int64 [N].
      lengths: of the images, bytes; int32 [N].
      labels: of all examples, int32 [M].
      label_ends: those of example i are labels[label_ends[i] : label_ends[i + 1]]; int32 [N + 1].
      most: labels of one example, at most.
      largest: label.
    """

    begins: np.ndarray
    lengths: np.ndarray
    labels: np.ndarray
    label_ends: np.ndarray
    most: int
    largest: int


def open_indices(tars: Sequence[epath.Path]) -> tuple[list[TarIndex], list[str]]:
    """The indices of tars; those that lack one are read, in parallel and with a progress bar.

    What is done of that stays when it is interrupted. Hosts that start together share the work.

    Returns:
      The indices, and the names of tars that had changed since they were indexed.

    Raises:
      InputError: a tar cannot be read or is damaged, or an image or a label is missing or wrong.
      TrainingStopped: its bucket does not answer now.
    """
    pool = ThreadPoolExecutor(_THREADS)
    try:
        indices = dict(zip(tars, pool.map(_load, tars), strict=True))
        missing = [tar for tar, index in indices.items() if index is None]
        changed = [tar.name for tar in missing if _has_index(tar)]
        # In an order of their own: what one host has kept, the others load.
        making = {pool.submit(_load_or_make, tar): tar for tar in random.sample(missing, len(missing))}
        is_quiet = not missing or jax.process_index() != 0
        for made in tqdm(as_completed(making), 'index', len(making), unit='tar', disable=is_quiet):
            indices[making[made]] = made.result()
    finally:
        pool.shutdown(cancel_futures=True)
    return [index for index in indices.values() if index is not None], changed


# ------------------------------------------------------- From the tar


def _load_or_make(tar: epath.Path) -> TarIndex:
    index = _load(tar)  # Of another host, meanwhile.
    if index is None:
        try:
            stamp = _stamp(tar)
            index = _make(tar, stamp.size)
        except file_errors() as error:
            raise failure(f'{tar} cannot be read: {why(error)}', error) from error
        _keep(tar, index, stamp)
    return index


def _make(tar: epath.Path, num_bytes: int) -> TarIndex:
    begins, lengths, labels, label_ends = [], [], [], [0]
    with reading_on(tar, num_bytes) as read:
        for example in tar_examples(str(tar), num_bytes, read):
            begins.append(example.image.begin)
            lengths.append(example.image.length)
            labels += example.labels
            label_ends.append(len(labels))
    return TarIndex(
        np.array(begins, np.int64),
        np.array(lengths, np.int32),
        np.array(labels, np.int32),
        np.array(label_ends, np.int32),
        most=int(np.diff(label_ends).max(initial=0)),
        largest=max(labels, default=-1),
    )


# ------------------------------------------------------- On the disk


class _Stamp(NamedTuple):
    """Tells whether a tar has changed.

    Attributes:
      size: bytes.
      changed: when it was, ns.
    """

    size: int
    changed: int


def _stamp(tar: epath.Path) -> _Stamp:
    if is_local(tar):
        found = os.stat(tar)
        return _Stamp(found.st_size, found.st_mtime_ns)
    in_bucket = tar.stat()
    return _Stamp(in_bucket.length, int(in_bucket.mtime) * 10**9)


def _places(tar: epath.Path) -> tuple[epath.Path, epath.Path]:
    """Where an index may be: beside its tar, or in the cache."""
    full = os.path.abspath(tar) if is_local(tar) else os.fspath(tar)
    digest = hashlib.sha256(full.encode()).hexdigest()[:16]
    return tar.with_name(f'{tar.name}.index'), epath.Path(cache_directory(), 'tars', f'{digest}.index')


def _has_index(tar: epath.Path) -> bool:
    return any(path.exists() for path in _places(tar))


def _load(tar: epath.Path) -> TarIndex | None:
    """The index of a tar; None if there is none that fits it."""
    try:
        stamp = _stamp(tar)
        for path in _places(tar):
            with contextlib.suppress(FileNotFoundError, pa.ArrowInvalid):
                if (index := _read(path, stamp)) is not None:
                    return index
    except file_errors() as error:
        raise failure(f'{tar} cannot be read: {why(error)}', error) from error
    return None


def _read(path: epath.Path, stamp: _Stamp) -> TarIndex | None:
    # What is mapped stays so when the file is closed, of which a process may not have many.
    with pa.memory_map(str(path)) if is_local(path) else pa.BufferReader(read_range(path, 0)) as mapped:
        file = pa.ipc.open_file(mapped)
        about = json.loads((file.schema.metadata or {}).get(_ABOUT, b'{}'))
        if about.get('tar') != list(stamp):
            return None
        begins, lengths, labels = file.get_batch(0).columns
    return TarIndex(
        begins.to_numpy(),
        lengths.to_numpy(),
        labels.values.to_numpy(),
        labels.offsets.to_numpy(),
        about['most'],
        about['largest'],
    )


def _keep(tar: epath.Path, index: TarIndex, stamp: _Stamp) -> None:
    columns = {
        'begin': pa.array(index.begins),
        'length': pa.array(index.lengths),
        'labels': pa.ListArray.from_arrays(index.label_ends, index.labels),
    }
    about = json.dumps({'tar': stamp, 'most': index.most, 'largest': index.largest})
    batch = pa.record_batch(columns, metadata={_ABOUT: about})
    beside, cached = _places(tar)
    try:
        _write(batch, beside)
    except file_errors():  # Of a directory or a bucket that may not be written.
        cached.parent.mkdir(parents=True, exist_ok=True)
        _write(batch, cached)


def _write(batch: pa.RecordBatch, path: epath.Path) -> None:
    with replacing(path) as draft, pa.ipc.new_file(str(draft), batch.schema) as writer:
        writer.write_batch(batch)
