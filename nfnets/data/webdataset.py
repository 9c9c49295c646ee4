"""WebDataset: tars of images with a label or several, read in any order by an index of each tar."""

import fnmatch
import functools
import itertools
import re
from collections.abc import Callable, Sequence

import numpy as np
from etils import epath

from nfnets.data.folder import some
from nfnets.data.ranges import read_range, start_range
from nfnets.data.records import Shard, Sharded
from nfnets.data.source import Example, Label, Source, label_set
from nfnets.data.tar_index import open_indices
from nfnets.data.tar_members import BLOCK, header_length, header_name
from nfnets.errors import InputError
from nfnets.files import file_errors, is_folder

_CLASSES = 'classes.txt'
_some = functools.partial(some, most=3)  # Names of tars are long.


class WebDatasetSource(Source):
    """The images of tars, with a label or a set of labels each.

    Attributes:
      class_names: the lines of classes.txt beside the tars; without one, numbers up to the largest label.
      warnings: of a missing classes.txt, and of tars that had changed since they were indexed.
      label_shape: () if each example has one label; else [L], where L is the most that one has.
    """

    def __init__(self, directory: epath.Path, split: str):
        """Finds the tars and opens their indices; reads the tars that have none.

        Args:
          directory: holds the tars.
          split: their names, as in 'imagenet12k-train-{0000..1007}.tar' or 'val-*.tar'; a word stands for
            those that contain it.

        Raises:
          InputError: there is no such tar, one is damaged, or a label is missing or not below the classes.
          TrainingStopped: its bucket does not answer now.
        """
        tars = find_tars(directory, split)
        self._indices, changed = open_indices(tars)
        counts = [len(index.begins) for index in self._indices]
        self._shards = Sharded([Shard(tar, 0, n, n) for tar, n in zip(tars, counts, strict=True)])
        self._tars = tars
        if not sum(counts):
            raise InputError(f'no tar of the split {split!r} in data.dir={directory} holds an image')
        most = max(index.most for index in self._indices)
        self.label_shape: tuple[int, ...] = (most,) if most > 1 else ()
        largest = max(index.largest for index in self._indices)
        names = _read_classes(directory)
        self.class_names = tuple(names or map(str, range(largest + 1)))
        if largest >= len(self.class_names):
            raise InputError(
                f'{self.describe(self._example_with(largest))} has the label {largest}, and '
                f'{directory / _CLASSES} has {len(self.class_names)} lines: the classes 0 to '
                f'{len(self.class_names) - 1}'
            )
        self.warnings = tuple(_warnings(directory, split, None if names else largest, changed))

    def __len__(self) -> int:
        return len(self._shards)

    def read(self, index: int) -> Example:
        return self.start(index)()

    def start(self, index: int) -> Callable[[], Example]:
        shard, example = self._shards.locate(index)
        begin, length = (int(x[example]) for x in self._indices[shard][:2])
        content = start_range(self._tars[shard], begin - BLOCK, begin + length)
        return lambda: (_image(content()), self._label(shard, example))

    def describe(self, index: int) -> str:
        shard, example = self._shards.locate(index)
        try:
            return f'{self.name(index)} in {self._tars[shard]}'
        except file_errors():
            return f'image {example} in {self._tars[shard]}'

    def name(self, index: int) -> str:
        shard, example = self._shards.locate(index)
        begin = int(self._indices[shard].begins[example])
        return header_name(read_range(self._tars[shard], begin - BLOCK, begin))

    def _label(self, shard: int, example: int) -> Label:
        index = self._indices[shard]
        labels = index.labels[index.label_ends[example] : index.label_ends[example + 1]]
        if not self.label_shape:
            return int(labels[0])
        return label_set(labels, self.label_shape[0])

    def _example_with(self, label: int) -> int:
        """The first example that has a label."""
        before = 0
        for index in self._indices:
            found = np.flatnonzero(index.labels == label)
            if len(found):
                return before + int(np.searchsorted(index.label_ends, found[0], side='right')) - 1
            before += len(index.begins)
        raise KeyError(label)


def find_tars(directory: epath.Path, split: str) -> list[epath.Path]:
    """The tars of a split, sorted as their names are written.

    Args:
      directory: that they lie in.
      split: a pattern, see `WebDatasetSource`.

    Raises:
      InputError: there is none, or one that the pattern names is not there.
    """
    if not is_folder(directory):
        raise InputError(f'data.dir={directory} is no folder; expected one with tars such as train-0000.tar')
    there = sorted(path.name for path in directory.iterdir() if path.name.endswith('.tar'))
    patterns = _expand(split if split.endswith('.tar') else f'*{split}*.tar')
    found = [fnmatch.filter(there, pattern) for pattern in patterns]
    missing = [pattern for pattern, names in zip(patterns, found, strict=True) if not names]
    if missing:
        has = f'; there are {_some(there)}' if there else ', nor any other'
        raise InputError(f'data.dir={directory} holds no tar {_some(missing)} of the split {split!r}{has}')
    return [directory / name for name in dict.fromkeys(itertools.chain(*found))]


def _expand(pattern: str) -> list[str]:
    """'a-{00..02}.tar' -> ['a-00.tar', 'a-01.tar', 'a-02.tar'], and {a,b}, as a shell does."""
    braces = re.search(r'\{(?:(\d+)\.\.(\d+)|([^{}]*,[^{}]*))\}', pattern)
    if braces is None:
        return [pattern]
    first, last, choices = braces.groups()
    if choices is None:
        width = len(first) if first.startswith('0') else 0
        middles = [f'{number:0{width}}' for number in range(int(first), int(last) + 1)]
    else:
        middles = choices.split(',')
    before, after = pattern[: braces.start()], pattern[braces.end() :]
    return [before + middle + rest for middle in middles for rest in _expand(after)]


def _read_classes(directory: epath.Path) -> list[str] | None:
    path = directory / _CLASSES
    if not path.exists():
        return None
    try:
        names = path.read_text(encoding='utf-8').splitlines()
    except UnicodeDecodeError as error:
        raise InputError(f'{path} is no text in UTF-8: {error}') from error
    empty = [number for number, name in enumerate(names or [''], 1) if not name.strip()]
    if empty:
        raise InputError(f'{path} must name a class in each line, and line {empty[0]} is empty')
    return names


def _image(content: bytes) -> bytes:
    """What follows a header; OSError unless that is the image of the index."""
    image = content[BLOCK:]
    try:
        fits = header_length(content[:BLOCK]) == len(image)
    except ValueError:
        fits = False
    if not fits:
        raise OSError('no image begins where the index says: was the tar replaced?')
    return image


def _warnings(directory: epath.Path, split: str, largest: int | None, changed: Sequence[str]) -> list[str]:
    """Args: largest is that of the labels, where no classes are named."""
    warnings = []
    if largest is not None:
        warnings.append(
            f'data.dir={directory} has no {_CLASSES}, one class a line: those of {split!r} are 0 to {largest}'
        )
    if changed:
        warnings.append(
            f'data.dir={directory}: {_some(changed)} had changed since the index was made, and was read anew'
        )
    return warnings
