"""What runs have logged, finished or not, read from their working directories."""

import dataclasses
import json
import math
import re
from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

import ml_collections
import numpy as np
from etils import epath

from nfnets.config import flatten
from nfnets.data.imagenet import imagenet_names
from nfnets.errors import InputError
from nfnets.run.workdir import METRICS, read_class_names, read_config


class Curve(NamedTuple):
    """The logged values of one metric: float64 [N] each."""

    steps: np.ndarray
    values: np.ndarray


@dataclasses.dataclass(frozen=True)
class Run:
    """A run, finished or not.

    Attributes:
      name: of the working directory; its path where another is called the same.
      workdir: where it is.
      config: as run.
      class_names: of the data, 0 first; None if the run did not keep them.
      curves: by the names of `metrics.jsonl`.
      unread: how many of its lines cannot be read.
    """

    name: str
    workdir: epath.Path
    config: ml_collections.FrozenConfigDict
    class_names: tuple[str, ...] | None
    curves: dict[str, Curve]
    unread: int

    @property
    def step(self) -> int:
        """The last that was logged; 0 if none was."""
        return int(max((curve.steps[-1] for curve in self.curves.values()), default=0))

    def last(self, metric: str) -> float | None:
        """The newest value of a metric, if there is any."""
        return float(self.curves[metric].values[-1]) if metric in self.curves else None

    def median(self, metric: str) -> float | None:
        """The median of what is finite of a metric, if there is any."""
        values = self.curves[metric].values if metric in self.curves else np.zeros(0)
        finite = values[np.isfinite(values)]
        return float(np.median(finite)) if finite.size else None


def read_runs(workdirs: Sequence[epath.Path]) -> list[Run]:
    """Reads runs, in the order given, each once.

    Raises:
      InputError: a directory is none of a run, or none of the runs has logged anything yet.
    """
    workdirs = list({workdir.resolve(): workdir for workdir in workdirs}.values())
    called = Counter(workdir.resolve().name for workdir in workdirs)
    runs = [read_logged_run(workdir) for workdir in workdirs]
    runs = [run if called[run.name] == 1 else dataclasses.replace(run, name=str(run.workdir)) for run in runs]
    if not any(run.curves for run in runs):
        paths = ', '.join(str(workdir / METRICS) for workdir in workdirs)
        steps = ', '.join(str(run.config.train.log_every_steps) for run in runs)
        raise InputError(f'no metrics in {paths} yet: the first line comes after step {steps}')
    return runs


def read_logged_run(workdir: epath.Path) -> Run:
    """Reads a run, which need not have logged anything.

    Raises:
      InputError: the directory is none of a run.
    """
    return Run(
        workdir.resolve().name,
        workdir,
        ml_collections.FrozenConfigDict(read_config(workdir)),
        read_class_names(workdir),
        *read_curves(workdir / METRICS),
    )


def read_curves(path: epath.Path) -> tuple[dict[str, Curve], int]:
    """Reads metrics, without what cannot be read, such as a line that a killed run did not finish.

    A value that was not finite, which may stand there as null, is NaN.

    Returns:
      {metric: curve}, and the number of lines skipped; no curves if there is no such file.
    """
    points: dict[str, list[tuple[float, float]]] = {}
    unread = 0
    text = path.read_bytes().decode(errors='replace') if path.exists() else ''
    for line in text.splitlines():
        try:
            scalars = json.loads(line)
            step = float(scalars.pop('step'))
            scalars = {key: math.nan if value is None else float(value) for key, value in scalars.items()}
        except (ValueError, TypeError, AttributeError, KeyError):
            unread += 1
            continue
        for metric, value in scalars.items():
            points.setdefault(metric, []).append((step, value))
    return {metric: Curve(*np.array(pairs).T) for metric, pairs in points.items()}, unread


def thin(curve: Curve, most: int) -> Curve:
    """A curve of so many points at most: means of what is finite over stretches of equal length."""
    if len(curve.steps) <= most:
        return curve
    parts = [np.array_split(x, most) for x in curve]
    return Curve(*(np.array([_mean(part) for part in x]) for x in parts))


def _mean(values: np.ndarray) -> float:
    finite = values[np.isfinite(values)]
    return float(np.mean(finite)) if finite.size else math.nan


def differences(runs: Sequence[Run]) -> dict[str, list[Any]]:
    """{setting: its value in each run} of the settings that are not the same in all; None where not known."""
    settings = all_settings(runs)
    return {key: values for key, values in settings.items() if any(v != values[0] for v in values)}


def all_settings(runs: Sequence[Run]) -> dict[str, list[Any]]:
    """{setting: its value in each run}, sorted."""
    each = [flatten(run.config.to_dict()) for run in runs]
    return {key: [one.get(key) for one in each] for key in sorted(set().union(*each))}


def are_on_same_data(runs: Sequence[Run]) -> bool:
    """Whether all runs learn from and are evaluated on the same examples, by their settings and classes."""
    return len({_data(run) for run in runs}) == 1


def is_on_imagenet(run: Run) -> bool:
    """Whether a run is on ImageNet, as a TensorFlow data set or as folders of its 1000 classes."""
    data = run.config.data
    is_tfds = data.source == 'tfds' and re.fullmatch('imagenet2012([:/].*)?', data.name) is not None
    return is_tfds or set(run.class_names or ()) == set(imagenet_names())


def data_name(run: Run) -> str | None:
    """What tells the data of a run from others of its source; None if there is only one of that."""
    data = run.config.data
    if data.mixture:
        return ', '.join(data.mixture)
    return {'tfds': data.name, 'folder': data.dir, 'webdataset': data.dir, 'coco': data.dir}.get(data.source)


def _data(run: Run) -> tuple[Any, ...]:
    data = run.config.data
    return data.source, data_name(run), data.train_split, data.mixture, data.eval_split, run.class_names
