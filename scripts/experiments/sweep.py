"""Many small runs in parallel processes, each in a directory of its own, so that a sweep can be resumed.

`ablate.py` does its runs with this module, which is no command.
"""

import atexit
import contextlib
import json
import math
import multiprocessing
import os
import statistics
import sys
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any, NamedTuple

import jax

from nfnets import host

_DIVERGED = 'diverged.txt'  # Holds the error of a run that diverged.


class Run(NamedTuple):
    """One run of `configs/digits.py`.

    Attributes:
      name: of its directory, different for different settings.
      network: one that `configs/digits.py` takes.
      settings: what differs from that config, by key.
    """

    name: str
    network: str
    settings: dict[str, Any]


def run_all(runs: Iterable[Run], workdir: Path, jobs: int) -> None:
    """Does the runs that are not complete in `workdir`, `jobs` at a time, and prints how each ended."""
    lacking = [run for run in runs if top_1(workdir / run.name) is None]
    context = multiprocessing.get_context('spawn')
    with ProcessPoolExecutor(jobs, mp_context=context, initializer=_start_worker) as pool:
        futures = {pool.submit(_train, run, workdir / run.name): run for run in lacking}
        for done, future in enumerate(as_completed(futures), start=1):
            future.result()
            name = futures[future].name
            outcome = _outcome(top_1(workdir / name))
            print(f'{done}/{len(lacking)} {name}: {outcome}', file=sys.stderr, flush=True)


def _outcome(accuracy: float | None) -> str:
    return 'diverged' if accuracy is None or math.isnan(accuracy) else f'top-1 {100 * accuracy:.2f}%'


def _start_worker() -> None:
    # TensorFlow, JAX and Orbax together were seen to hang in what ends a process after all of Python has.
    atexit.register(os._exit, 0)
    # One thread for each run is faster than all threads for each in turn.
    flags = host.xla_flags('--xla_cpu_multi_thread_eigen=false')
    os.environ.update(JAX_PLATFORMS='cpu', XLA_FLAGS=flags, TF_CPP_MIN_LOG_LEVEL='3')
    jax.config.update('jax_platforms', 'cpu')  # JAX is imported already; it has not computed anything.


def _train(run: Run, workdir: Path) -> None:
    from nfnets.configs import digits
    from nfnets.errors import Diverged
    from nfnets.train import train_and_evaluate

    config = digits.get_config(run.network)
    config.update_from_flattened_dict(run.settings)
    workdir.mkdir(parents=True, exist_ok=True)
    with (
        (workdir / 'log.txt').open('a') as log,
        contextlib.redirect_stdout(log),
        contextlib.redirect_stderr(log),
    ):
        try:
            train_and_evaluate(config, workdir)
        except Diverged as error:
            (workdir / _DIVERGED).write_text(f'{error}\n')


def top_1(workdir: Path) -> float | None:
    """Accuracy of a complete run's last parameters, 0..1; NaN if it diverged, None if it is not complete."""
    if (workdir / _DIVERGED).exists():
        return math.nan
    if not (workdir / 'metrics.jsonl').exists():
        return None
    steps = json.loads((workdir / 'config.json').read_text())['train']['steps']
    lines = [json.loads(line) for line in (workdir / 'metrics.jsonl').read_text().splitlines()]
    found = [line['eval/top_1'] for line in lines if line['step'] == steps and 'eval/top_1' in line]
    return found[-1] if found else None


class Summary(NamedTuple):
    """Several seeds of one setting.

    Attributes:
      mean: of the accuracies in percent; of those that diverged, `chance`.
      spread: their standard deviation, percent.
      diverged: how many did.
      seeds: how many there are.
    """

    mean: float
    spread: float
    diverged: int
    seeds: int

    def __str__(self) -> str:
        if self.diverged == self.seeds:
            return 'diverged'
        lost = f' ({self.diverged} of {self.seeds} diverged)' if self.diverged else ''
        return f'{self.mean:.1f} ± {self.spread:.1f}{lost}'


def summarize(runs: Sequence[Run], workdir: Path, chance: float = 10.0) -> Summary:
    """Mean and spread over the seeds of one setting."""
    accuracies = [top_1(workdir / run.name) for run in runs]
    percent = [chance if a is None or math.isnan(a) else 100 * a for a in accuracies]
    diverged = sum(a is None or math.isnan(a) for a in accuracies)
    return Summary(statistics.mean(percent), statistics.pstdev(percent), diverged, len(runs))
