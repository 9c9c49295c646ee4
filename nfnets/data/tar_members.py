"""The files in a tar, by their headers alone: ustar, GNU's and pax's long names, each checksum compared.

Python's tarfile takes several times as long for each, and ImageNet-21k's 1,024 tars have 39 million.
"""

from collections.abc import Iterator
from typing import NamedTuple

from nfnets.data.ranges import Read
from nfnets.errors import InputError

BLOCK = 512  # Bytes; headers have one, and contents are padded to whole ones.
_EMPTY = bytes(BLOCK)  # Two of them end a tar.
_REGULAR = b'0\0'  # Types of header.
_LONG_NAME, _PAX = b'L', b'x'
_NUL = b'\0'


class Member(NamedTuple):
    """A regular file in a tar: its name with folders, where its content begins, and how long it is, bytes."""

    name: str
    begin: int
    length: int


def members(path: str, num_bytes: int, read: Read) -> Iterator[Member]:
    """Walks through the regular files of a tar.

    Args:
      path: of the tar, for messages.
      num_bytes: its size.
      read: gives a part of it.

    Raises:
      InputError: it is damaged or cut off.
    """
    position, long_name = 0, ''
    while position + BLOCK <= num_bytes:
        header = read(position, BLOCK)
        if header == _EMPTY:
            return
        try:
            _check(header)
            name, length = header_name(header), header_length(header)
        except ValueError:
            what = 'damaged' if position else 'no tar'
            raise InputError(f'{path} is {what}: there is no header at byte {position}') from None
        begin, kind = position + BLOCK, header[156:157]
        position = begin - -length // BLOCK * BLOCK
        if position > num_bytes:
            raise InputError(
                f'{path} is cut off: {long_name or name} ends at byte {begin + length}, and the file has '
                f'{num_bytes}'
            )
        if kind == _LONG_NAME:
            long_name = _text(read(begin, length))
        elif kind == _PAX:
            long_name = _pax_path(read(begin, length)) or long_name
        else:
            if kind in _REGULAR:
                yield Member(long_name or name, begin, length)
            long_name = ''
    raise InputError(f'{path} is cut off: its {num_bytes} bytes do not end as a tar does')


def header_name(header: bytes) -> str:
    """The name in a header, cut off if it is a long one."""
    prefix = _text(header[345:500]) if header[257:263] == b'ustar\0' else ''
    return f'{prefix}/{_text(header[:100])}' if prefix else _text(header[:100])


def header_length(header: bytes) -> int:
    """The length of what follows a header, bytes; ValueError if it has none."""
    return int(header[124:136].partition(_NUL)[0], 8)


def _check(header: bytes) -> None:
    stated = int(header[148:156].partition(_NUL)[0], 8)
    if sum(header) - sum(header[148:156]) + 8 * ord(' ') != stated:
        raise ValueError('the checksum differs')


def _text(field: bytes) -> str:
    return field.partition(_NUL)[0].decode('utf-8', 'surrogateescape')


def _pax_path(records: bytes) -> str:
    """The path among pax's records, each 'LENGTH KEY=VALUE\\n' of so many bytes; '' if there is none."""
    path = ''
    while records:
        length = int(records.partition(b' ')[0])
        key, _, value = records[:length].partition(b' ')[2].partition(b'=')
        if key == b'path':
            path = _text(value[:-1])
        records = records[length:]
    return path
