"""Keeps a job training until it has finished: looks at it again and again, and does what it takes."""

import contextlib
import time
from collections import Counter
from collections.abc import Callable

from call import CallFailed
from cloud import Cloud, Worker
from job import InvalidJob, LaunchError

_GONE = ('', 'PREEMPTED', 'TERMINATED')  # States of a TPU that does not come back.
_MOST_FAILURES = 3  # In a row, each within _SETTLED seconds of a start: the next is the last.
_SETTLED = 3600
_PATIENCE = 3  # Looks at training that runs on some workers only, before it is stopped there.
_INVALID = 'ended 2'  # scripts/train.py refused its input.
_START_AGAIN = 'ended 75'  # Preempted, with its state saved.


def watch(cloud: Cloud, every: float, deletes: bool) -> None:
    """Returns when training has finished.

    Args:
      every: seconds between looks.
      deletes: fetches the log and deletes the queued resource at the end, good or bad.

    Raises:
      InvalidJob: there is nothing to watch.
      LaunchError: starting again is of no use.
    """
    watcher = Watcher(cloud)
    try:
        _until(watcher.look, cloud, every)
    except InvalidJob:
        raise
    except LaunchError:
        _end(cloud, every, deletes)
        raise
    _end(cloud, every, deletes)


class Watcher:
    """Remembers what cannot be seen: how often training failed, and when it was started."""

    def __init__(self, cloud: Cloud, clock: Callable[[], float] = time.monotonic):
        """Args: clock gives seconds."""
        self._cloud = cloud
        self._clock = clock
        self._failures = 0
        self._started = clock()
        self._looks_at_some = 0
        self._has_deleted = False

    def look(self) -> bool:
        """Looks once, and does what is to be done; True when training has finished.

        Raises:
          CallFailed: it could not be done; look again.
          InvalidJob: there is nothing to look at.
          LaunchError: starting again is of no use.
        """
        state = self._cloud.state()
        if state == 'ACTIVE':
            return self._look_at_workers()
        if state == 'SUSPENDED':
            self._replace('was taken away')
        elif state == 'FAILED':
            self._fail('the request for the TPU failed')
            self._replace('could not be had')
        elif state:
            self._say(f'queued resource {state}')
        elif self._has_deleted:
            self._create()
        else:
            raise InvalidJob(f'there is no queued resource {self._cloud.job.name}: create it first')
        return False

    def _look_at_workers(self) -> bool:
        try:
            workers = self._cloud.workers()
        except CallFailed as error:
            node = self._cloud.node_state()
            if node in _GONE:
                self._replace('was taken away')
            else:
                self._say(f'TPU {node}, but {error}')
            return False
        states = {worker.state for worker in workers}
        if states == {'ended 0'}:
            self._say('training has finished')
            return True
        if states == {'running'}:
            self._looks_at_some = 0
            progress = [worker.last_line for worker in workers if 'images/s' in worker.last_line]
            log_line = ''.join(f': {line}' for line in progress[:1])
            self._say(f'running on {len(workers)} workers{log_line}')
        elif _INVALID in states:
            raise LaunchError(f'training would end the same way again: {_summary(workers)}')
        elif 'running' in states:
            self._wait_for_the_rest(workers)
        elif 'new' in states:
            self._set_up()
        else:
            if not states <= {'ready', _START_AGAIN}:
                self._fail(f'training ended: {_summary(workers)}')
            self._start()
        return False

    def _wait_for_the_rest(self, workers: list[Worker]) -> None:
        self._looks_at_some += 1
        self._say(_summary(workers))
        if self._looks_at_some >= _PATIENCE:
            self._looks_at_some = 0
            self._say('stopping it where it still runs')
            self._cloud.stop()

    def _set_up(self) -> None:
        self._say('setting up the workers')
        try:
            self._cloud.set_up()
        except CallFailed as error:
            self._fail(f'setting up failed: {error}')
            return
        self._start()

    def _start(self) -> None:
        self._say('starting training')
        self._started = self._clock()
        self._looks_at_some = 0
        self._cloud.start()

    def _replace(self, why: str) -> None:
        if why == 'was taken away':
            self._failures = 0
        self._say(f'the TPU {why}')
        delete(self._cloud)
        self._has_deleted = True
        self._create()

    def _create(self) -> None:
        self._say(f'asking for a TPU {self._cloud.job.accelerator}')
        self._cloud.create()
        self._has_deleted = False

    def _fail(self, reason: str) -> None:
        if self._clock() - self._started >= _SETTLED:
            self._failures = 0
        self._failures += 1
        if self._failures > _MOST_FAILURES:
            raise LaunchError(f'given up after {_MOST_FAILURES} attempts to resume: {reason}')
        self._say(reason)

    def _say(self, text: str) -> None:
        say(self._cloud, text)


def say(cloud: Cloud, text: str) -> None:
    print(f'{time.strftime("%Y-%m-%d %H:%M:%S")} {cloud.job.name}: {text}', flush=True)


def delete(cloud: Cloud) -> None:
    """Deletes without asking, and says what."""
    job = cloud.job
    say(cloud, f'deleting queued resource {job.name} of {job.project} in {job.zone}, and its TPU')
    cloud.delete(asks=False)


def _until(is_done: Callable[[], bool], cloud: Cloud, every: float) -> None:
    while True:
        try:
            if is_done():
                return
        except CallFailed as error:
            say(cloud, f'{error}; trying again in {every:g} s')
        time.sleep(every)


def _end(cloud: Cloud, every: float, deletes: bool) -> None:
    if not deletes:
        say(cloud, 'the TPU is still there and costs money: `pod.py delete` gives it back')
        return
    with contextlib.suppress(CallFailed):
        cloud.fetch_log()
    _until(lambda: _is_deleted(cloud), cloud, every)


def _is_deleted(cloud: Cloud) -> bool:
    if cloud.state():
        delete(cloud)
    return True


def _summary(workers: list[Worker]) -> str:
    """Counts of workers by state, and the last output of up to three that do not run."""
    counts = Counter(worker.state for worker in workers)
    summary = ', '.join(f'{count} {state}' for state, count in counts.items())
    lines = [str(worker) for worker in workers if worker.state != 'running' and worker.last_line]
    return '; '.join([summary, *lines[:3]])
