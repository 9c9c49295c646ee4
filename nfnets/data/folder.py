"""A folder of one folder per class: DIR/train/CLASS/*.jpg, DIR/val/CLASS/*.jpg."""

import pathlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeAlias, TypeVar

from etils import epath

from nfnets.errors import InputError
from nfnets.files import is_folder, is_local

_T = TypeVar('_T')
_File: TypeAlias = pathlib.Path | epath.Path  # The first is faster, on a disk.
_EXTENSIONS = frozenset({'.jpg', '.jpeg', '.png', '.bmp', '.gif'})
_THREADS = 64  # A bucket takes some hundredths of a second to answer.
_TRAIN = 'train'  # Its folders are the classes of every split.


class FolderSource:
    """The images below DIR/SPLIT, labelled by the sorted names of the folders in DIR/train."""

    def __init__(self, directory: epath.Path, split: str):
        """Lists the files.

        Args:
          directory: holds one folder for each split.
          split: name of one.

        Raises:
          InputError: a folder is missing or empty, or a class is not among those of `train`.
        """
        layout = f'expected {directory}/{split}/CLASS/*.jpg (or {", ".join(sorted(_EXTENSIONS))})'
        if not is_folder(directory):
            raise InputError(f'data.dir={directory} is no folder; {layout}')
        names = _folders(directory / split, layout)
        train = directory / _TRAIN
        self.class_names = tuple(_folders(train, layout)) if train.is_dir() else tuple(names)
        unknown = sorted(set(names) - set(self.class_names))
        if unknown:
            raise InputError(f'{directory / split} has classes that {train} has not: {", ".join(unknown)}')
        self._files: list[tuple[_File, int]] = []
        folders = [directory / split / name for name in self.class_names]
        for label, (folder, files) in enumerate(zip(folders, _of_each(_images, folders), strict=True)):
            if not files and split == _TRAIN:
                raise InputError(f'{folder} holds no image; {layout}')
            self._files += [(path, label) for path in files]
        if not self._files:
            raise InputError(f'{directory / split} holds no image; {layout}')

    def __len__(self) -> int:
        return len(self._files)

    def read(self, index: int) -> tuple[bytes, int]:
        path, label = self._files[index]
        return path.read_bytes(), label

    def describe(self, index: int) -> str:
        return str(self._files[index][0])


def _folders(directory: epath.Path, layout: str) -> list[str]:
    if not directory.is_dir():
        raise InputError(f'{directory} is no folder; {layout}')
    paths = [path for path in directory.iterdir() if path.name[0] != '.']
    is_dir = _of_each(lambda path: path.is_dir(), paths)
    names = sorted(path.name for path, is_it in zip(paths, is_dir, strict=True) if is_it)
    if not names:
        raise InputError(f'{directory} holds no folder of a class; {layout}')
    return names


def _images(directory: epath.Path) -> Sequence[_File]:
    if is_local(directory):
        paths = sorted(p for p in pathlib.Path(directory).rglob('*') if _is_image(p))
        return [p for p in paths if p.is_file()]
    # A list of what is there, and no question about each image.
    paths = list(directory.glob('*'))
    below = next((p for p in paths if not p.suffix and p.name[0] != '.' and p.is_dir()), None)
    if below is not None:
        raise InputError(f'{below} is a folder: in a bucket images must lie right below their class')
    return sorted(p for p in paths if _is_image(p))


def _is_image(path: pathlib.PurePath) -> bool:
    return path.suffix.lower() in _EXTENSIONS and not path.name.startswith('.')


def _of_each(function: Callable[[epath.Path], _T], paths: Sequence[epath.Path]) -> list[_T]:
    if all(is_local(path) for path in paths):
        return [function(path) for path in paths]
    with ThreadPoolExecutor(_THREADS) as pool:
        return list(pool.map(function, paths))
