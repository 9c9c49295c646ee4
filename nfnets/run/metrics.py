"""Metrics of a run on disk: `metrics.jsonl` and TensorBoard events."""

import contextlib
import json
import math
import time
from collections.abc import Mapping

import jax
from etils import epath

# Not its SummaryWriter: that writes in a thread of its own, which a full disk ends unseen.
from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto import event_pb2, summary_pb2

from nfnets.errors import TrainingStopped
from nfnets.files import failure, file_errors, replace_file, why
from nfnets.run.workdir import METRICS

Scalars = Mapping[str, float]


class MetricsWriter:
    """Appends scalars to `metrics.jsonl`, one JSON object a line, and to TensorBoard event files.

    In a multi-host run process 0 alone writes. Lines of steps after the one resumed from are dropped:
    those steps are run again.
    """

    def __init__(self, workdir: epath.Path, start_step: int):
        """Opens the files.

        Args:
          workdir: exists.
          start_step: the last step already done.

        Raises:
          InputError: `metrics.jsonl` is there and cannot be read or written.
        """
        self._is_writer = jax.process_index() == 0
        if self._is_writer:
            path = workdir / METRICS
            self._closing = contextlib.ExitStack()
            try:
                _drop_after(path, start_step)
                self._file = self._closing.enter_context(path.open('a'))
            except file_errors(UnicodeDecodeError) as error:
                message = f'{path} cannot be read and written: {why(error)}; mend it or move it away'
                raise failure(message, error) from error
            self._events = EventsWriter(str(workdir / 'events'))
            # TensorBoard hides what came after that step before.
            start = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
            self._events.write_event(event_pb2.Event(step=start_step + 1, session_log=start))

    def write(self, step: int, scalars: Scalars) -> None:
        """Writes the scalars of one step; they reach the disk at once.

        Raises:
          TrainingStopped: the metrics cannot be written.
        """
        if not self._is_writer:
            return
        values = [summary_pb2.Summary.Value(tag=name, simple_value=value) for name, value in scalars.items()]
        event = event_pb2.Event(wall_time=time.time(), step=step, summary=summary_pb2.Summary(value=values))
        try:
            # JSON has neither NaN nor infinity.
            line = {name: value if math.isfinite(value) else None for name, value in scalars.items()}
            self._file.write(json.dumps({'step': step, **line}, allow_nan=False) + '\n')
            self._file.flush()
            self._events.write_event(event)
            self._events.flush()
        except file_errors() as error:
            raise TrainingStopped(f'metrics of step {step} cannot be written: {error}') from error

    def close(self) -> None:
        """Closes the files."""
        if self._is_writer:
            for file in (self._closing, self._events):
                with contextlib.suppress(*file_errors()):  # Of a full disk; `write` has raised.
                    file.close()


def _drop_after(path: epath.Path, step: int) -> None:
    if not path.exists():
        return
    lines = path.read_text().splitlines(keepends=True)
    kept = [line for line in lines if _step_of(line) <= step]
    if kept != lines:
        replace_file(path, ''.join(kept))


def _step_of(line: str) -> float:
    try:
        return json.loads(line)['step']
    except (json.JSONDecodeError, KeyError, TypeError):
        return float('inf')  # A line that was cut short when the run was killed.
