"""The examples in a tar of WebDataset: files that follow each other under one key, KEY.webp and KEY.cls."""

import itertools
import json
from collections.abc import Iterator
from typing import NamedTuple

from nfnets.data.folder import EXTENSIONS
from nfnets.data.ranges import Read
from nfnets.data.tar_members import Member, members
from nfnets.errors import InputError
from nfnets.files import why

_LABEL_FILES = ('cls', 'json')  # The first there is counts.
_LABEL_FIELDS = ('label', 'labels', 'cls')  # Of JSON, likewise.
_IMAGES = frozenset(ending.removeprefix('.') for ending in EXTENSIONS)
_LARGEST = 999_999  # Label.


class TarExample(NamedTuple):
    """An image in a tar, and its labels, sorted."""

    image: Member
    labels: list[int]


def tar_examples(path: str, num_bytes: int, read: Read) -> Iterator[TarExample]:
    """Walks through the examples of a tar; files that are no image and no label are passed over.

    Args:
      path: of the tar, for messages.
      num_bytes: its size.
      read: gives a part of it.

    Raises:
      InputError: it is damaged or cut off, or an image lacks a label or a label its image, or it is no label.
    """
    files = filter(_is_visible, members(path, num_bytes, read))
    for key, group in itertools.groupby(files, lambda file: _split(file.name)[0]):
        images: list[Member] = []
        contents: dict[str, bytes] = {}
        for file in group:
            ending = _split(file.name)[1]
            if ending in _IMAGES:
                images.append(file)
            elif ending in _LABEL_FILES:
                contents[ending] = read(file.begin, file.length)
        if len(images) > 1:
            raise InputError(f'{path} has two images of one key: {images[0].name} and {images[1].name}')
        if not images and 'cls' in contents:
            raise InputError(f'{path} has no image of {key}.cls')
        if images:
            yield TarExample(images[0], _labels(path, key, images[0], contents))


def _is_visible(file: Member) -> bool:
    return not file.name.rpartition('/')[2].startswith('.')


def _split(name: str) -> tuple[str, str]:
    """Key and ending: a key ends at the first dot of a file's own name."""
    folder, slash, own = name.rpartition('/')
    stem, _, ending = own.partition('.')
    return folder + slash + stem, ending.lower()


def _labels(path: str, key: str, image: Member, contents: dict[str, bytes]) -> list[int]:
    ending = next((ending for ending in _LABEL_FILES if ending in contents), None)
    if ending is None:
        raise InputError(f'{path} has no label of {image.name}: it holds neither {key}.cls nor {key}.json')
    try:
        labels = _of_json(contents[ending]) if ending == 'json' else _of_cls(contents[ending])
    except ValueError as error:
        raise InputError(f'{key}.{ending} in {path} holds no labels: {why(error)}') from error
    if not labels or min(labels) < 0 or max(labels) > _LARGEST:
        raise InputError(
            f'{key}.{ending} in {path} holds the labels {labels[:10]}: give one or more whole numbers '
            f'from 0 to {_LARGEST}'
        )
    return sorted(set(labels))


def _of_cls(content: bytes) -> list[int]:
    return [int(text) for text in content.replace(b',', b' ').split()]


def _of_json(content: bytes) -> list[int]:
    fields = json.loads(content)
    field = next((name for name in _LABEL_FIELDS if isinstance(fields, dict) and name in fields), None)
    if field is None:
        raise ValueError(f'it has no field {", ".join(_LABEL_FIELDS)}')
    labels = fields[field] if isinstance(fields[field], list) else [fields[field]]
    if not all(type(label) is int for label in labels):
        raise ValueError(f'its {field} is {json.dumps(fields[field])[:100]}')
    return labels
