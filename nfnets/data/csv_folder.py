"""A folder of images with a table of their labels for each split: DIR/train.csv, DIR/val.csv."""

import csv
import io
from collections import Counter
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from etils import epath

from nfnets.data.folder import EXTENSIONS, TRAIN, of_each, some
from nfnets.data.ranges import start_range
from nfnets.data.source import Example, Source, label_set
from nfnets.errors import InputError

_HEAD = ['file', 'labels']
_BETWEEN = ';'  # Labels of one image.


def table_of(directory: epath.Path, split: str) -> epath.Path:
    """Where the table of a split is, if the folder has one."""
    return directory / f'{split}.csv'


class _Row(NamedTuple):
    line: int
    file: str
    names: tuple[str, ...]


class CsvFolderSource(Source):
    """The images that DIR/SPLIT.csv names, each with a set of labels; the classes are those of DIR/train.csv.

    Attributes:
      class_names: all that the table of `train`, or this one if there is no other, names; sorted.
      warnings: of images without a label, and of classes without an image.
      label_shape: [L], the most labels that an image of the split has, at least 1.
    """

    def __init__(self, directory: epath.Path, split: str):
        """Reads the tables, and looks which files are there.

        Args:
          directory: holds the tables; files in them are relative to it.
          split: name of a table, without '.csv'.

        Raises:
          InputError: a table is missing or broken, names a file that is not there or no image by its ending,
            or a class that `train` has not.
        """
        self._directory, table = directory, table_of(directory, split)
        rows, train = _read(table), table_of(directory, TRAIN)
        of_classes = rows if split == TRAIN or not train.exists() else _read(train)
        self.class_names = tuple(sorted({name for row in of_classes for name in row.names}))
        if not self.class_names:
            raise InputError(f'{table} names no label')
        number = {name: label for label, name in enumerate(self.class_names)}
        for row in rows:
            if unknown := sorted(set(row.names) - number.keys()):
                raise InputError(f'{table} line {row.line}: {train} has no class {", ".join(unknown)}')
        _check_files(directory, table, rows)
        self._files = [row.file for row in rows]
        self._labels = np.array([number[name] for row in rows for name in row.names], np.int32)
        counts = [len(row.names) for row in rows]
        self._ends = np.cumsum([0, *counts])
        self.label_shape: tuple[int, ...] = (max(1, *counts),)
        self.warnings = tuple(self._find_warnings(table))

    def _find_warnings(self, table: epath.Path) -> list[str]:
        found = []
        if unlabeled := int(np.sum(np.diff(self._ends) == 0)):
            found.append(f'{table}: images without a label: {unlabeled} of {len(self)}')
        missing = np.setdiff1d(np.arange(len(self.class_names)), self._labels)
        if missing.size:
            names = some([self.class_names[k] for k in missing])
            found.append(
                f'{table} has no image of {missing.size} of the {len(self.class_names)} classes: {names}'
            )
        return found

    def __len__(self) -> int:
        return len(self._files)

    def read(self, index: int) -> Example:
        return self.start(index)()

    def start(self, index: int) -> Callable[[], Example]:
        content = start_range(self._directory / self._files[index], 0)
        labels = self._labels[self._ends[index] : self._ends[index + 1]]
        return lambda: (content(), label_set(labels, self.label_shape[0]))

    def describe(self, index: int) -> str:
        return str(self._directory / self._files[index])


def _read(table: epath.Path) -> list[_Row]:
    """The rows of a table below its head, with their lines, 1 first."""
    if not table.exists():
        raise InputError(f'{table} is missing: the folder has a table of labels for another split')
    try:
        lines = csv.reader(io.StringIO(table.read_bytes().decode('utf-8-sig')), strict=True)
        if next(lines, None) != _HEAD:
            raise InputError(f'{table} line 1 must be {",".join(_HEAD)}')
        rows = [_row(table, lines.line_num, cells) for cells in lines if cells]
    except (csv.Error, UnicodeDecodeError) as error:
        raise InputError(f'{table} is no table: {error}') from error
    if not rows:
        raise InputError(f'{table} names no image')
    return rows


def _row(table: epath.Path, line: int, cells: Sequence[str]) -> _Row:
    if len(cells) != len(_HEAD):
        raise InputError(
            f'{table} line {line} has {len(cells)} cells: give a file and its labels, as in '
            f'train/1.jpg,cat{_BETWEEN}dog'
        )
    file, labels = cells
    names = dict.fromkeys(name.strip() for name in labels.split(_BETWEEN))
    return _Row(line, file, tuple(filter(None, names)))


def _check_files(directory: epath.Path, table: epath.Path, rows: Sequence[_Row]) -> None:
    """That every file is there, once; each folder is listed once, as a bucket takes time to answer."""
    for row in rows:
        if epath.Path(row.file).suffix.lower() not in EXTENSIONS:
            raise InputError(
                f'{table} line {row.line}: {row.file!r} does not end in {", ".join(sorted(EXTENSIONS))}'
            )
    several = [file for file, count in Counter(row.file for row in rows).items() if count > 1]
    if several:
        raise InputError(f'{table} names files more than once: {some(several)}')
    parents = sorted({str((directory / row.file).parent) for row in rows})
    listed = of_each(_names_in, [epath.Path(parent) for parent in parents])
    there = dict(zip(parents, listed, strict=True))
    paths = ((row, directory / row.file) for row in rows)
    missing = [row.file for row, path in paths if path.name not in there[str(path.parent)]]
    if missing:
        raise InputError(f'{table} names files that are not in {directory}: {some(missing)}')


def _names_in(folder: epath.Path) -> set[str]:
    return {path.name for path in folder.iterdir()} if folder.is_dir() else set()
