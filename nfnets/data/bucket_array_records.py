"""Random access to the records of ArrayRecord files in a bucket.

ArrayRecord's own reader opens a connection for each record, asks for the rest of the file from there, and
hangs up when it has the record. Here a record is one request for its bytes alone. The form is that of
Riegeli, https://github.com/google/riegeli/blob/master/doc/riegeli_records_file_format.md: chunks of records,
interrupted by 24 bytes at each multiple of 64 KiB. ArrayRecord adds two chunks at the end: where each chunk
begins and how many records it holds, and, in the last 64 KiB, where that chunk begins.
"""

import struct
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import pyarrow
from etils import epath

from nfnets.data.ranges import read_range, start_range
from nfnets.data.records import Shard, Sharded, opening_threads
from nfnets.errors import InputError
from nfnets.files import failure

_BLOCK, _BLOCK_HEADER = 1 << 16, 24
_CHUNK_HEADER = struct.Struct('<5Q')  # Checksum, size, checksum, kind and count, size decoded.
_SIMPLE = ord('r')  # Of kinds of chunks; transposed ones TFDS does not write.
_COMPRESSION = {0: None, ord('b'): 'brotli', ord('z'): 'zstd', ord('s'): 'snappy'}
_FOOTER_FIELDS = (1 << 3, 2 << 3, 3 << 3)  # Tags of varints: offset, size decoded, records.
_POSTSCRIPT_FIELDS = (1 << 3, 2 << 3)  # Offset of the footer, magic.
_MAGIC = 0x71930E704FDAE05E


class _Index(NamedTuple):
    """Where the records of a file are.

    Attributes:
      offsets: of its chunks, and of the footer; int64 [chunks + 1].
      firsts: number of each chunk's first record, and of all records; int64 [chunks + 1].
    """

    offsets: np.ndarray
    firsts: np.ndarray


class BucketArrayRecords(Sharded):
    """ArrayRecord files in a bucket, whose footers are read when opened."""

    def __init__(self, shards: Sequence[Shard]):
        """Args: shards.

        Raises:
          InputError: one cannot be read, or has another count.
          TrainingStopped: the bucket does not answer now.
        """
        super().__init__(shards)
        with ThreadPoolExecutor(opening_threads(shards)) as pool:
            self._indices = list(pool.map(_index, shards))

    def start(self, index: int) -> Callable[[], bytes]:
        shard, record = self.locate(index)
        offsets, firsts = self._indices[shard]
        chunk = int(np.searchsorted(firsts, record, side='right')) - 1
        begin, end = int(offsets[chunk]), int(offsets[chunk + 1])
        content = start_range(self._shards[shard].path, begin, end)
        return lambda: _records(content(), begin)[record - firsts[chunk]]


def _index(shard: Shard) -> _Index:
    try:
        index = _read_index(shard.path)
    except (OSError, ValueError) as error:
        raise failure(f'{shard.path} cannot be opened: {error}', error) from error
    if index.firsts[-1] != shard.total:
        raise InputError(
            f'{shard.path} is damaged: it holds {index.firsts[-1]} records, and {shard.total} are expected; '
            'prepare the data set again'
        )
    return index


def _read_index(path: epath.Path) -> _Index:
    postscript, *_ = _records(read_range(path, -_BLOCK), 0)  # Of copies.
    ((footer, magic),) = _fields(postscript, _POSTSCRIPT_FIELDS)
    if magic != _MAGIC:
        raise ValueError('it is no ArrayRecord file')
    _, *chunks = _records(read_range(path, int(footer)), int(footer))
    offsets, _, counts = _fields(b''.join(chunks), _FOOTER_FIELDS).T
    index = _Index(np.append(offsets, footer), np.concatenate([[0], np.cumsum(counts)]))
    if not all((np.diff(numbers) > 0).all() for numbers in index):
        raise ValueError('its footer is damaged')
    return index


def _fields(messages: bytes, tags: Sequence[int]) -> np.ndarray:
    """The fields of protocol buffers that hold these varints alone; int64 [messages, tags]."""
    values = _varints(messages).reshape(-1, 2 * len(tags))  # ValueError if it does not fit.
    if (values[:, ::2] != tags).any():
        raise ValueError('its footer is damaged')
    return values[:, 1::2]


def _records(content: bytes, position: int) -> list[bytes]:
    """The records of the chunk that `content`, which lies at a position of its file, begins with."""
    try:
        return _decode_chunk(_without_block_headers(content, position))
    except (ValueError, LookupError, OverflowError, struct.error, pyarrow.ArrowException) as error:
        raise OSError(f'the chunk at byte {position} is damaged: {error}') from error


def _without_block_headers(content: bytes, position: int) -> bytes:
    begin = position // _BLOCK * _BLOCK
    starts = range(begin - position + _BLOCK_HEADER, len(content), _BLOCK)
    return b''.join(content[max(0, start) : start + _BLOCK - _BLOCK_HEADER] for start in starts)


def _decode_chunk(chunk: bytes) -> list[bytes]:
    _, size, _, kind_and_count, _ = _CHUNK_HEADER.unpack_from(chunk)
    kind, count = kind_and_count & 0xFF, kind_and_count >> 8
    if kind != _SIMPLE:
        raise ValueError(f'its kind is {chr(kind)!r}, and only {chr(_SIMPLE)!r} is read')
    data = memoryview(chunk)[_CHUNK_HEADER.size : _CHUNK_HEADER.size + size]
    if len(data) < size:
        raise ValueError('it is cut short')
    codec = _COMPRESSION[data[0]]
    length, begin = _varint(data, 1)
    sizes = _varints(_decompress(data[begin : begin + length], codec))
    values = _decompress(data[begin + length :], codec)
    ends = np.cumsum(sizes)
    if len(sizes) != count or ends[-1] != len(values):
        raise ValueError('its sizes do not fit')
    return [values[end - size : end] for end, size in zip(ends.tolist(), sizes.tolist(), strict=True)]


def _decompress(data: memoryview, codec: str | None) -> bytes:
    if codec is None:
        return bytes(data)
    size, begin = _varint(data, 0)
    return pyarrow.decompress(data[begin:], size, codec, asbytes=True)


def _varint(data: memoryview, begin: int) -> tuple[int, int]:
    """The varint that begins there, and where it ends."""
    value = shift = 0
    while True:
        byte = data[begin]
        value, shift, begin = value | (byte & 0x7F) << shift, shift + 7, begin + 1
        if byte < 0x80:
            return value, begin


def _varints(data: bytes) -> np.ndarray:
    """All of the varints in a row, each below 2^63; int64."""
    digits = np.frombuffer(data, np.uint8)
    ends = np.flatnonzero(digits < 0x80) + 1
    if not len(ends) or ends[-1] != len(digits):
        raise ValueError('its numbers are cut short')
    starts = np.concatenate([[0], ends[:-1]])
    places = np.arange(len(digits)) - np.repeat(starts, ends - starts)
    return np.add.reduceat((digits & 0x7F).astype(np.int64) << 7 * places, starts)
