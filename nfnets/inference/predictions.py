"""A CSV file of predictions: a row for each image of each set that a network is evaluated on."""

import contextlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import IO, Self

import jax
import numpy as np
from etils import epath

from nfnets.data.source import Source
from nfnets.errors import InputError
from nfnets.evaluation.evaluate import Predicted
from nfnets.files import failure, file_errors, is_local, why
from nfnets.inference.score import Evaluated
from nfnets.inference.tables import csv_rows

COLUMNS = (
    *('checkpoint', 'set', 'size', 'image', 'labels', 'top_1', 'top_5'),
    *(f'{what}_{rank}' for rank in range(1, 6) for what in ('label', 'probability')),
)
_READERS = 16  # Threads that wait for files, for the names of images.


class PredictionsFile:
    """The file, which process 0 writes, batch by batch: what is there when a run breaks off is right."""

    def __init__(self, path: epath.Path):
        """Begins a new file.

        Args:
          path: on a disk; must not exist.

        Raises:
          InputError: it exists, is in a bucket, or cannot be written.
        """
        self._path, self._is_empty = path, True
        self._file: IO[str] | None = None
        if not is_local(path):  # An object appears whole, when it is closed.
            raise InputError(f'--predictions={path} must be on a disk')
        with self._naming_failure():
            if path.exists():
                raise InputError(f'{path} exists already: remove it first, or give another name')
            if jax.process_index() == 0:
                self._file = path.open('w')
                self._file.write(csv_rows([COLUMNS]) + '\n')

    @contextlib.contextmanager
    def _naming_failure(self) -> Iterator[None]:
        try:
            yield
        except file_errors() as error:
            raise failure(f'{self._path} cannot be written: {why(error)}', error) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        if self._file is None:
            return
        with self._naming_failure():
            self._file.close()
            if self._is_empty:
                self._path.unlink()

    def add(self, evaluated: Evaluated, source: Source, predicted: Predicted) -> None:
        """Writes a row for each image of a batch that has a label; in every process, of which one writes."""
        if self._file is None:
            return
        real = np.flatnonzero(predicted.mask > 0)
        with ThreadPoolExecutor(_READERS) as readers:
            names = list(readers.map(source.name, predicted.indices[real].tolist()))
        rows = []
        for place, name in zip(real, names, strict=True):
            labels = _labels(predicted.labels[place])
            best, probabilities = predicted.best[place].tolist(), predicted.probabilities[place].tolist()
            hits = [int(bool(labels & set(best[:most]))) for most in (1, 5)]
            pairs = (value for pair in zip(best, probabilities, strict=True) for value in pair)
            if labels:
                listed = ' '.join(map(str, sorted(labels)))
                rows.append([*evaluated, name, listed, *hits, *pairs])
        if rows:
            with self._naming_failure():
                self._file.write(csv_rows(rows) + '\n')
                self._file.flush()
            self._is_empty = False


def _labels(given: np.ndarray) -> set[int]:
    """The labels of one example, from its number or its set [L]."""
    return set(given[given >= 0].tolist())
