"""Many small runs in parallel processes, recorded line by line in a file, so that a sweep can be resumed.

`ablate.py` does its runs with this module, which is no command.
"""

import argparse
import atexit
import contextlib
import datetime
import hashlib
import json
import math
import multiprocessing
import os
import platform
import statistics
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any, NamedTuple

import jax
import ml_collections
import numpy as np
from etils import epath

from nfnets import host
from nfnets.run.logged import read_logged_run

Record = dict[str, Any]  # Of a run that is complete, see `_train`.
# What is recorded of an evaluation, by config.task; the first is said as a run ends.
MEASURES = {
    'classification': ('top_1',),
    'detection': ('box_ap', 'mask_ap', 'box_ap50', 'mask_ap50'),
}
CALLED = {
    'top_1': 'top-1',
    'box_ap': 'box AP',
    'mask_ap': 'mask AP',
    'box_ap50': 'box AP50',
    'mask_ap50': 'mask AP50',
}


class Run(NamedTuple):
    """One run.

    Attributes:
      config: as after `--config=`, such as 'digits:NFResNet'.
      settings: what differs from that config, by key.
      start: the run whose parameters it starts from; None: new ones.
    """

    config: str
    settings: dict[str, Any]
    start: 'Run | None' = None

    @property
    def key(self) -> str:
        """Says all of it as JSON: two runs with the same key are the same."""
        settings = {name: 'inf' if value == math.inf else value for name, value in self.settings.items()}
        identity = {'config': self.config, 'settings': settings}
        if self.start is not None:
            identity['start'] = json.loads(self.start.key)
        return json.dumps(identity, sort_keys=True)

    def load(self) -> ml_collections.ConfigDict:
        """The config with what differs, not checked yet."""
        from nfnets.commands import config_flags

        config = config_flags.load(self.config)
        config.update_from_flattened_dict(self.settings)
        return config

    def directory(self, workdir: Path) -> Path:
        """Where it is among the runs of a sweep."""
        return workdir / hashlib.sha256(self.key.encode()).hexdigest()[:12]


def run_of(record: Record) -> Run:
    """The run that a record is of."""
    start = record.get('start')
    return Run(record['config'], record['settings'], start and run_of(start))


def run_all(
    runs: Iterable[Run], results: Path, workdir: Path, jobs: int, data_dirs: Mapping[str, str | None] = {}
) -> None:
    """Does the runs that no file beside the results has, `jobs` at a time, and prints how each ended.

    First come those that others start from, also where a file has them, but not the workdir.

    Args:
      runs: in the order in which they are begun.
      results: JSON lines, one a run; created where missing.
      workdir: takes a directory a run.
      jobs: runs at a time.
      data_dirs: data.dir by the first part of the config, 'digits'; it does not tell runs apart.
    """
    there = records(results.parent)
    lacking = {run.key: run for run in runs if run.key not in there}
    starts = {run.start.key: run.start for run in lacking.values() if run.start is not None}
    needed = {k: run for k, run in starts.items() if k not in there or not run.directory(workdir).exists()}
    results.parent.mkdir(parents=True, exist_ok=True)
    for group in (needed, {key: run for key, run in lacking.items() if key not in needed}):
        _run_group(list(group.values()), results, workdir, jobs, data_dirs)


def _run_group(
    runs: Sequence[Run], results: Path, workdir: Path, jobs: int, data_dirs: Mapping[str, str | None]
) -> None:
    context = multiprocessing.get_context('spawn')
    with ProcessPoolExecutor(jobs, mp_context=context, initializer=_start_worker) as pool:
        futures = [pool.submit(_train, run, workdir, jobs, data_dirs) for run in runs]
        for done, future in enumerate(as_completed(futures), start=1):
            record = future.result()
            with results.open('a') as lines:
                lines.write(json.dumps(record) + '\n')
            print(f'{done}/{len(runs)} {_describe(record)}', file=sys.stderr, flush=True)


def records(directory: Path) -> dict[str, Record]:
    """The complete runs of all files NAME.jsonl of a directory, by `Run.key`."""
    paths = sorted(directory.glob('*.jsonl'))
    return {run_of(each).key: each for path in paths for each in read(path)}


def read(path: Path) -> list[Record]:
    """The records of a file; none where there is none."""
    lines = path.read_text().splitlines(keepends=True) if path.exists() else []
    # A line that was cut off is of a run that is done again.
    return [json.loads(line) for line in lines if line.endswith('\n')]


def measures(record: Record) -> tuple[str, ...]:
    """What of an evaluation a record has, what tells most first."""
    return next(names for names in MEASURES.values() if names[0] in record)


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Adds what every study takes: where its runs and records are, and how many it does at a time."""
    parser.add_argument('--workdir', type=Path, required=True, help='takes one directory a run')
    parser.add_argument('--results', type=Path, default=Path('results'), help='directory of the records')
    parser.add_argument('--jobs', type=int, default=2, help='runs at a time, of a gigabyte or more each')
    parser.add_argument('--only-table', action='store_true', help='of the runs that are complete')


def _describe(record: Record) -> str:
    measure = measures(record)[0]
    outcome = record['diverged'] or f'{CALLED[measure]} {100 * record[measure]:.2f}%'
    return f'{record["config"]} {record["settings"]}: {outcome}'


def _start_worker() -> None:
    # TensorFlow, JAX and Orbax together were seen to hang in what ends a process after all of Python has.
    atexit.register(os._exit, 0)
    # One thread for each run is faster than all threads for each in turn.
    flags = host.xla_flags('--xla_cpu_multi_thread_eigen=false')
    os.environ.update(JAX_PLATFORMS='cpu', XLA_FLAGS=flags, TF_CPP_MIN_LOG_LEVEL='3')
    jax.config.update('jax_platforms', 'cpu')  # JAX is imported already; it has not computed anything.
    host.keep_compiled()  # Seeds are arguments of the same programs.


def _train(run: Run, workdir: Path, jobs: int, data_dirs: Mapping[str, str | None]) -> Record:
    """Trains, or resumes that, and says what came of it.

    Returns:
      'top_1' and 'ema_top_1', or the like of `MEASURES`, 0..1, are of the last parameters, None if the run
      'diverged', which then says how; 'train_loss' is the last that was logged, 'images_per_second' the
      median; 'evaluations' are pairs of a step and the first measure; 'seconds' are those of this process,
      which had one core of the machine's, beside jobs - 1 others.
    """
    from nfnets.errors import Diverged
    from nfnets.train import train_and_evaluate

    config = run.load()
    config.data.dir = data_dirs.get(run.config.partition(':')[0])
    if run.start is not None:
        config.init_from = str(run.start.directory(workdir))
    workdir = run.directory(workdir)
    workdir.mkdir(parents=True, exist_ok=True)
    results, diverged, start = {}, None, time.perf_counter()
    with (
        (workdir / 'log.txt').open('a') as log,
        contextlib.redirect_stdout(log),
        contextlib.redirect_stderr(log),
    ):
        try:
            results = train_and_evaluate(config, epath.Path(workdir))
        except Diverged as error:
            diverged = str(error).partition(';')[0]
    return {
        **json.loads(run.key),
        **{
            prefix + measure: None if diverged else results[evaluation][measure]
            for prefix, evaluation in (('', 'eval'), ('ema_', 'eval_ema'))
            for measure in MEASURES[config.task]
        },
        'diverged': diverged,
        **_logged(workdir, MEASURES[config.task][0]),
        'seconds': round(time.perf_counter() - start, 1),
        'jobs': jobs,
        **circumstances(),
    }


def _logged(workdir: Path, measure: str) -> Record:
    """The part of a record that is found in the metrics of the run."""
    run = read_logged_run(epath.Path(workdir))
    loss, evaluations = run.last('train/loss'), run.curves.get(f'eval/{measure}')
    return {
        'train_loss': None if loss is None or math.isnan(loss) else loss,
        'images_per_second': run.median('images_per_second'),
        'evaluations': [] if evaluations is None else np.transpose(evaluations).tolist(),
    }


def circumstances() -> Record:
    """The part of a record that says on what machine, by which JAX and when it was made."""
    return {'machine': _machine(), 'jax': jax.__version__, 'date': datetime.date.today().isoformat()}


def _machine() -> str:
    info = Path('/proc/cpuinfo')
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(': ')[2] for line in lines if line.startswith('model name')]
    return f'{os.cpu_count()} cores of {names[0] if names else platform.processor()}'


class Summary(NamedTuple):
    """Several seeds of one setting.

    Attributes:
      mean: of the accuracies in percent; of those that diverged, chance.
      spread: their standard deviation, percent.
      diverged: how many did.
      complete: how many are complete.
      seeds: how many there are to be.
    """

    mean: float
    spread: float
    diverged: int
    complete: int
    seeds: int

    def __str__(self) -> str:
        if not self.complete:
            return ''
        notes = [f'{self.complete} of {self.seeds} seeds'] if self.complete < self.seeds else []
        if self.diverged and self.diverged < self.complete:
            notes.append(f'{self.diverged} diverged')
        value = f'{self.mean:.1f}'
        if self.diverged == self.complete:
            value = 'diverged'
        elif self.complete > 1:
            value += f' ± {self.spread:.1f}'
        return f'{value} ({", ".join(notes)})' if notes else value


def summarize(
    runs: Sequence[Run], there: dict[str, Record], chance: float = 10.0, measure: str = 'top_1'
) -> Summary:
    """Mean and spread over the seeds of one setting that are complete; nan where none is.

    Args:
      runs: one for each seed.
      there: `records`.
      chance: accuracy that a run counts with that diverged, percent.
      measure: of the records.
    """
    found = [there[run.key][measure] for run in runs if run.key in there]
    percent = [chance if accuracy is None else 100 * accuracy for accuracy in found]
    diverged = sum(accuracy is None for accuracy in found)
    if not found:
        return Summary(math.nan, math.nan, 0, 0, len(runs))
    return Summary(statistics.mean(percent), statistics.pstdev(percent), diverged, len(found), len(runs))
