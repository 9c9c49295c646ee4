"""A folder of one folder per class: DIR/train/CLASS/*.jpg, DIR/val/CLASS/*.jpg."""

from pathlib import Path

from nfnets.errors import InputError

_EXTENSIONS = frozenset({'.jpg', '.jpeg', '.png', '.bmp', '.gif'})
_TRAIN = 'train'  # Its folders are the classes of every split.


class FolderSource:
    """The images below DIR/SPLIT, labelled by the sorted names of the folders in DIR/train."""

    def __init__(self, directory: Path, split: str):
        """Lists the files.

        Args:
          directory: holds one folder for each split.
          split: name of one.

        Raises:
          InputError: a folder is missing or empty, or a class is not among those of `train`.
        """
        layout = f'expected {directory}/{split}/CLASS/*.jpg (or {", ".join(sorted(_EXTENSIONS))})'
        if not directory.is_dir():
            raise InputError(f'data.dir={directory} is no folder; {layout}')
        names = _folders(directory / split, layout)
        train = directory / _TRAIN
        self.class_names = tuple(_folders(train, layout)) if train.is_dir() else tuple(names)
        unknown = sorted(set(names) - set(self.class_names))
        if unknown:
            raise InputError(f'{directory / split} has classes that {train} has not: {", ".join(unknown)}')
        self._files: list[tuple[Path, int]] = []
        for label, name in enumerate(self.class_names):
            files = _images(directory / split / name)
            if not files and split == _TRAIN:
                raise InputError(f'{directory / split / name} holds no image; {layout}')
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


def _folders(directory: Path, layout: str) -> list[str]:
    if not directory.is_dir():
        raise InputError(f'{directory} is no folder; {layout}')
    names = sorted(p.name for p in directory.iterdir() if p.is_dir() and p.name[0] != '.')
    if not names:
        raise InputError(f'{directory} holds no folder of a class; {layout}')
    return names


def _images(directory: Path) -> list[Path]:
    paths = sorted(p for p in directory.rglob('*') if p.suffix.lower() in _EXTENSIONS)
    return [p for p in paths if not p.name.startswith('.') and p.is_file()]
