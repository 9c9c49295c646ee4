"""A folder of one folder per class: DIR/train/CLASS/*.jpg, DIR/val/CLASS/*.jpg."""

import pathlib
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeAlias, TypeVar

from etils import epath

from nfnets.data.ranges import start_range
from nfnets.data.source import Example, Source
from nfnets.errors import InputError
from nfnets.files import is_folder, is_local

_T = TypeVar('_T')
_File: TypeAlias = pathlib.Path | epath.Path  # The first is faster, on a disk.
EXTENSIONS = frozenset({'.jpg', '.jpeg', '.png', '.webp', '.bmp', '.gif'})
_THREADS = 64  # A bucket takes some hundredths of a second to answer.
TRAIN = 'train'  # Its folders are the classes of every split.
_NAMED = 5  # Of what may be long, a message names so many.


class FolderSource(Source):
    """The images below DIR/SPLIT, labeled by the sorted names of the folders in DIR/train.

    Attributes:
      class_names: as of every source.
      warnings: of files that are no images by their endings, and of classes without an image.
    """

    def __init__(self, directory: epath.Path, split: str):
        """Lists the files.

        Args:
          directory: holds one folder for each split.
          split: name of one.

        Raises:
          InputError: a folder is missing or empty, or a class is not among those of `train`.
        """
        layout = (
            f'expected {directory}/{split}/CLASS/*.jpg (or {", ".join(sorted(EXTENSIONS))}), or a table '
            f'{directory}/{split}.csv'
        )
        if not is_folder(directory):
            raise InputError(f'data.dir={directory} is no folder; {layout}')
        names = _folders(directory / split, layout)
        train = directory / TRAIN
        self.class_names = tuple(_folders(train, layout)) if train.is_dir() else tuple(names)
        unknown = sorted(set(names) - set(self.class_names))
        if unknown:
            raise InputError(f'{directory / split} has classes that {train} has not: {", ".join(unknown)}')
        self._files: list[tuple[_File, int]] = []
        folders = [directory / split / name for name in self.class_names]
        skipped, empty = Counter[str](), []
        for label, (folder, (files, others)) in enumerate(
            zip(folders, of_each(_images, folders), strict=True)
        ):
            if not files and split == TRAIN:
                raise InputError(f'{folder} holds no image; {layout}')
            self._files += [(path, label) for path in files]
            skipped += others
            empty += [] if files else [folder.name]
        if not self._files:
            raise InputError(f'{directory / split} holds no image; {layout}')
        self.warnings = tuple(_warnings(directory / split, skipped, empty, len(folders)))

    def __len__(self) -> int:
        return len(self._files)

    def read(self, index: int) -> Example:
        return self.start(index)()

    def start(self, index: int) -> Callable[[], Example]:
        path, label = self._files[index]
        content = start_range(path, 0)
        return lambda: (content(), label)

    def describe(self, index: int) -> str:
        return str(self._files[index][0])


def _folders(directory: epath.Path, layout: str) -> list[str]:
    if not directory.is_dir():
        raise InputError(f'{directory} is no folder; {layout}')
    paths = [path for path in directory.iterdir() if path.name[0] != '.']
    is_dir = of_each(lambda path: path.is_dir(), paths)
    names = sorted(path.name for path, is_it in zip(paths, is_dir, strict=True) if is_it)
    if not names:
        raise InputError(f'{directory} holds no folder of a class; {layout}')
    return names


def _warnings(directory: epath.Path, skipped: Counter[str], empty: Sequence[str], classes: int) -> list[str]:
    """One line on files of other types by their endings, and one on classes without an image."""
    warnings = [f'{directory}: {describe_skipped(skipped, EXTENSIONS)}'] if skipped else []
    if empty:
        warnings.append(f'{directory} has no image of {len(empty)} of the {classes} classes: {some(empty)}')
    return warnings


def describe_skipped(skipped: Counter[str], known: Iterable[str]) -> str:
    """A line on the files skipped for an unknown ending, counted by ending."""
    by_number = sorted(skipped.items(), key=lambda item: (-item[1], item[0]))
    listed = some([f'{number} {ending or "without an ending"}' for ending, number in by_number])
    files = 'file' if skipped.total() == 1 else 'files'
    return f'{skipped.total()} {files} skipped, of other types than {", ".join(sorted(known))}: {listed}'


def some(names: Sequence[str], most: int = _NAMED) -> str:
    """The first few of many names, and how many more there are, for messages."""
    more = len(names) - most
    return ', '.join(names[:most]) + (f' and {more} more' if more > 0 else '')


def _images(directory: epath.Path) -> tuple[Sequence[_File], Counter[str]]:
    """The images of a class, sorted, and how many other files of each ending lie among them."""
    if is_local(directory):
        found = list(pathlib.Path(directory).rglob('*'))
        others = (p for p in found if not _is_image(p) and not _is_hidden(p, directory) and p.is_file())
        return sorted(p for p in found if _is_image(p) and p.is_file()), Counter(map(_ending, others))
    # A list of what is there, and no question about each file.
    paths = [path for path in directory.glob('*') if path.name[0] != '.']
    below = next((p for p in paths if not p.suffix and p.is_dir()), None)
    if below is not None:
        raise InputError(f'{below} is a folder: in a bucket images must lie right below their class')
    return sorted(filter(_is_image, paths)), Counter(_ending(p) for p in paths if not _is_image(p))


def _is_image(path: pathlib.PurePath) -> bool:
    return _ending(path) in EXTENSIONS and not path.name.startswith('.')


def _is_hidden(path: pathlib.PurePath, top: epath.Path) -> bool:
    """Whether the name of a file, or of a folder that it is in below the top, begins with a dot."""
    return any(part.startswith('.') for part in path.relative_to(top).parts)


def _ending(path: pathlib.PurePath) -> str:
    return path.suffix.lower()


def of_each(function: Callable[[epath.Path], _T], paths: Sequence[epath.Path]) -> list[_T]:
    """The results for all paths in order; in a bucket, many at a time."""
    if all(is_local(path) for path in paths):
        return [function(path) for path in paths]
    with ThreadPoolExecutor(_THREADS) as pool:
        return list(pool.map(function, paths))
