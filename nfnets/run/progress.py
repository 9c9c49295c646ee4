"""Follows a run: a progress bar, metrics, and a stop at what is not finite."""

import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

import jax
import ml_collections
import numpy as np
import optax
from tqdm import tqdm

from nfnets.errors import Diverged
from nfnets.run.metrics import MetricsWriter, Scalars
from nfnets.run.time_use import TimeUse

_OF_PARTS = ('agc_clipped_by_group', 'grad_sum_squares')  # Metrics of parts of a network.


class Throughput:
    """Images/s over the steps since the last interval began."""

    def __init__(self, batch_size: int, clock: Callable[[], float] = time.perf_counter):
        """Args: batch_size is images a step; clock gives seconds."""
        self._batch_size = batch_size
        self._clock = clock
        self.restart()

    def restart(self) -> None:
        """Begins anew after a pause."""
        self._began, self._steps, self._is_first = self._clock(), 0, True

    def count(self, ends_interval: bool) -> float:
        """Counts a step that was just started, which means that the one before it is done.

        The first step after a pause may hold a compilation: it alone is timed with it, and the interval
        begins after it.

        Returns:
          Images/s of the interval so far.
        """
        self._steps += 1
        now = self._clock()
        rate = self._steps * self._batch_size / (now - self._began)
        if ends_interval or self._is_first:
            self._began, self._steps, self._is_first = now, 0, False
        return rate


class Progress:
    """Follows the steps of a run: shows each, writes some, and stops at the first that is not finite.

    A step's metrics are fetched only after the next step is under way, so that the device never waits
    for the host.
    """

    def __init__(
        self,
        writer: MetricsWriter,
        time_use: TimeUse,
        train: ml_collections.FrozenConfigDict,
        *,
        start_step: int,
        schedule: optax.Schedule,
        groups: Mapping[str, str],
    ):
        """Opens the progress bar.

        Args:
          writer: takes the metrics of some steps.
          time_use: of the thread that trains.
          train: `config.train`: batch size in images, length of the run and log interval in steps.
          start_step: the last step already done.
          schedule: from the number of updates done to the learning rate of the next.
          groups: {parameter: its part of the network}, in the order of 'grad_sum_squares'.
        """
        self._writer = writer
        self._time_use = time_use
        self._log_every_steps = train.log_every_steps
        self._batch_size = train.batch_size
        self._schedule = schedule
        self._parameter_names = list(groups)
        self._parameter_groups = np.array(list(groups.values()))
        self._pending: tuple[int, Mapping[str, Any], float] | None = None
        self._throughput = Throughput(train.batch_size)
        self._bar = tqdm(
            total=train.steps,
            initial=start_step,
            unit='step',
            desc='compiling',
            dynamic_ncols=True,
            mininterval=0.2 if sys.stderr.isatty() else 30.0,
            disable=jax.process_index() != 0,
        )

    def add(self, step: int, metrics: Mapping[str, Any]) -> None:
        """Takes the metrics of a step just started, and reports the step before it.

        Raises:
          Diverged: the loss or a gradient of the step before is not finite.
        """
        self.flush()
        self._pending = step, metrics, self._throughput.count(step % self._log_every_steps == 0)

    def flush(self) -> None:
        """Waits for the step under way and reports it.

        Raises:
          Diverged: its loss or a gradient is not finite.
        """
        if self._pending is None:
            return
        (step, pending, rate), self._pending = self._pending, None
        metrics = jax.device_get(pending)
        check_finite(step, metrics, self._parameter_names)
        loss = float(metrics['loss'])
        fractions = self._time_use.fractions()
        waiting = f'{100 * fractions["time/input"]:.0f}% waiting for input'
        self._bar.set_postfix_str(f'loss {loss:.3f}, {rate:.0f} images/s, {waiting}', refresh=False)
        self._bar.set_description('training', refresh=False)
        self._bar.update()
        if step % self._log_every_steps == 0:
            self._writer.write(step, {**self._scalars(step, metrics), 'images_per_second': rate, **fractions})
            self._time_use.restart()

    def _scalars(self, step: int, metrics: Mapping[str, Any]) -> Scalars:
        clipped = metrics['agc_clipped_by_group']
        squares = metrics['grad_sum_squares']
        norms = {
            group: float(np.sqrt(np.sum(squares[self._parameter_groups == group])))
            for group in np.unique(self._parameter_groups)
        }
        return {
            **{f'train/{name}': float(value) for name, value in metrics.items() if name not in _OF_PARTS},
            'train/examples_seen': step * self._batch_size,
            'train/grad_norm': float(np.sqrt(np.sum(squares))),
            **{f'train/grad_norm/{group}': norm for group, norm in norms.items()},
            **{f'train/agc_clipped_fraction/{group}': float(fraction) for group, fraction in clipped.items()},
            'learning_rate': float(self._schedule(step - 1)),
        }

    def restart_clock(self) -> None:
        """Resumes after a pause, such as an evaluation, that images/s must not count."""
        self._throughput.restart()

    def say(self, text: str) -> None:
        """Prints a line above the bar, unless it is empty."""
        if text and jax.process_index() == 0:
            self._bar.write(text)

    def close(self) -> None:
        """Ends the progress bar."""
        self._bar.close()


def check_finite(step: int, metrics: Mapping[str, Any], parameter_names: list[str], most: int = 5) -> None:
    """Stops a run whose loss, gradients or parameters have become NaN or infinite.

    Args:
      step: of the metrics.
      metrics: with 'loss' [], 'param_norm' [], 0 if it is not reported, and 'grad_sum_squares' [parameters].
      parameter_names: of the latter.
      most: how many parameters are named.

    Raises:
      Diverged: names the step, the loss and the parameters.
    """
    broken = np.flatnonzero(~np.isfinite(metrics['grad_sum_squares']))
    if np.isfinite(metrics['loss']) and np.isfinite(metrics['param_norm']) and not broken.size:
        return
    names = [parameter_names[i] for i in broken[:most]]
    if broken.size > most:
        names.append(f'and {broken.size - most} more of {len(parameter_names)}')
    norm = float(metrics['param_norm'])
    raise Diverged(
        f'step {step}: the loss is {float(metrics["loss"]):g}'
        + (f' and the norm of the parameters {norm:g}' if norm else '')
        + f'; gradients that are not finite: {", ".join(names) or "none"}'
    )


def flat_results(results: Mapping[str, Scalars]) -> Scalars:
    """{'eval': {'top_1': 0.9}} -> {'eval/top_1': 0.9}."""
    return {f'{name}/{key}': value for name, r in results.items() for key, value in r.items()}
