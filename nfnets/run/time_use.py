"""Fractions of a run's time: steps, input, evaluation, checkpoints."""

import time
from collections.abc import Callable

KINDS = ('input', 'steps', 'evaluation', 'checkpoints')


class TimeUse:
    """Fractions of the time since the last interval began, by what the training thread was at.

    On an accelerator that thread is a step ahead of the device: 'steps' is the time that it waited for the
    device, compiling included, and 'input' the time that it waited for images, none where they are ready.
    """

    def __init__(self, clock: Callable[[], float] = time.perf_counter):
        """Args: clock gives seconds, and never goes back."""
        self._clock = clock
        self._kind = KINDS[0]
        self.restart()

    def restart(self) -> None:
        """Begins an interval."""
        self._seconds = dict.fromkeys(KINDS, 0.0)
        self._last = self._clock()

    def spend_on(self, kind: str) -> None:
        """Counts the time from now on for one of KINDS."""
        self._count()
        self._kind = kind

    def fractions(self) -> dict[str, float]:
        """'time/KIND' for every kind: 0..1, 1 in all."""
        self._count()
        total = sum(self._seconds.values())
        return {f'time/{kind}': seconds / total if total else 0.0 for kind, seconds in self._seconds.items()}

    def _count(self) -> None:
        now = self._clock()
        self._seconds[self._kind] += now - self._last
        self._last = now
