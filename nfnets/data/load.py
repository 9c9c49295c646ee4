"""The choice of a source of examples by its name, `data.source`."""

from nfnets.data.source import Source
from nfnets.errors import InputError
from nfnets.files import as_path, failure, file_errors

KINDS = ('tfds', 'folder', 'webdataset', 'digits')


def load_source(kind: str, *, name: str, directory: str | None, split: str) -> Source:
    """Opens one split of a data set; reads no image.

    Args:
      kind: 'tfds' (a prepared TensorFlow data set), 'folder', 'webdataset' (tars) or 'digits'.
      name: of the TensorFlow data set; the other kinds ignore it.
      directory: TFDS's data_dir (None: its default), or the folder; 'digits' ignores it.
      split: in TFDS's syntax; for a folder the name of a folder in it; for 'webdataset' names of tars, see
        `nfnets/data/webdataset.py`; for 'digits' 'train' or 'eval'.

    Returns:
      The source.

    Raises:
      InputError: there is no such kind, data set or split, or nothing usable in it.
      TrainingStopped: its bucket does not answer now.
    """
    try:
        return _load(kind, name, directory, split)
    except file_errors() as error:
        raise failure(f'data.dir={directory} cannot be read: {error}', error) from error


def _load(kind: str, name: str, directory: str | None, split: str) -> Source:
    path = None if directory is None else as_path(directory)
    # Imported where used: TFDS alone takes seconds.
    if kind == 'digits':
        from nfnets.data.digits import DigitsSource

        return DigitsSource(split)
    if kind == 'folder':
        from nfnets.data.csv_folder import CsvFolderSource, table_of
        from nfnets.data.folder import TRAIN, FolderSource

        if path is None:
            raise InputError("data.source='folder' needs data.dir, the folder that holds the splits")
        if any(table_of(path, each).exists() for each in (TRAIN, split)):
            return CsvFolderSource(path, split)
        return FolderSource(path, split)
    if kind == 'webdataset':
        from nfnets.data.webdataset import WebDatasetSource

        if path is None:
            raise InputError("data.source='webdataset' needs data.dir, the folder that holds the tars")
        return WebDatasetSource(path, split)
    if kind == 'tfds':
        from nfnets.data.tfds_source import TfdsSource

        return TfdsSource(name, directory, split)
    raise InputError(f'unknown data.source {kind!r}; there are {", ".join(KINDS)}')
