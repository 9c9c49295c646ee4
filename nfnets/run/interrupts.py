"""Signals that end a program: SIGINT of Ctrl-C, and SIGTERM, which clouds send before they take a machine.

Python runs a handler in the main thread between two of its own instructions, so not while that thread is in
XLA's compiler, which can be minutes. Here a thread waits for signals instead, and acts at once.
"""

import collections
import contextlib
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Sequence
from typing import Any

import jax
from jax.experimental import multihost_utils

from nfnets.errors import Interrupted, Preempted

# What a shell counts for SIGINT, and EX_TEMPFAIL: start the same command again.
EXIT_CODES = {signal.SIGINT: 130, signal.SIGTERM: os.EX_TEMPFAIL}


_HANDLED = 0x80  # Marks the number of a signal that its handler passes on; all are smaller.


class SignalWatch:
    """Calls a function, in a thread of its own, for each signal as it comes.

    From another thread than the main one it does nothing: only that one may set handlers.
    """

    def __init__(self, numbers: Sequence[signal.Signals], on_signal: Callable[[signal.Signals], None]):
        """Takes the signals from whoever has them, until it is closed.

        Args:
          numbers: of the signals.
          on_signal: called with one of them.
        """
        self._on_signal = on_signal
        self._numbers = tuple(numbers)
        self._is_watching = threading.current_thread() is threading.main_thread()
        if not self._is_watching:
            return
        self._reader, self._writer = socket.socketpair()
        self._writer.setblocking(False)
        self._previous_wakeup = signal.set_wakeup_fd(self._writer.fileno(), warn_on_full_buffer=False)
        self._previous = {number: signal.signal(number, self._handle) for number in self._numbers}
        threading.Thread(target=self._wait, name='signals', daemon=True).start()

    def _handle(self, number: int, frame: Any) -> None:
        # Event loops in the main thread take the wake-up for themselves; then this alone is called. It leaves
        # the rest to the other thread: this one may hold a lock that `on_signal` needs.
        del frame
        with contextlib.suppress(BlockingIOError):  # Full: there are signals enough to see.
            self._writer.send(bytes([number | _HANDLED]))

    def _wait(self) -> None:
        # A signal comes by both ways, in either order, or by one alone.
        counts = collections.Counter[int]()
        seen = collections.Counter[int]()
        while received := self._reader.recv(64):  # Nothing once the writer is closed.
            for byte in received:
                number = byte & ~_HANDLED
                counts[byte] += 1
                if number in self._numbers and counts[byte] > seen[number]:
                    seen[number] += 1
                    self._on_signal(signal.Signals(number))
        self._reader.close()

    def close(self) -> None:
        """Leaves the signals to whoever had them before."""
        if not self._is_watching:
            return
        self._is_watching = False
        signal.set_wakeup_fd(self._previous_wakeup)
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._writer.close()


def end_now(number: signal.Signals, message: str) -> None:
    """Ends the process at once with one line and the signal's exit code, whatever its threads are doing.

    Leaving in order would have to wait for XLA's compiler, which has crashed when its process went.
    """
    with contextlib.suppress(OSError, ValueError):
        sys.stdout.flush()
        os.write(2, f'\nerror: {message}\n'.encode())
    os._exit(EXIT_CODES[number])


class Preemption:
    """Ends a training run by signals to it or to any other of its processes: by SIGTERM, or by Ctrl-C.

    While there is nothing to save, above all while the first step compiles, the process ends at once. Later
    the step under way is finished, and the loop asks `is_due` and saves. A second Ctrl-C does not wait.

    Attributes:
      has_progress: whether steps were done that a checkpoint would keep; set by the loop.
    """

    def __init__(self, last_checkpoint: Callable[[], str]):
        """Takes the signals until it is closed.

        Args:
          last_checkpoint: names what a later run would resume from.
        """
        self.has_progress = False
        self._last_checkpoint = last_checkpoint
        self._received: signal.Signals | None = None
        # In a distributed run JAX takes SIGTERM, and makes all processes agree on a step.
        self._is_distributed = jax.distributed.is_initialized()
        numbers = (signal.SIGINT,) if self._is_distributed else (signal.SIGINT, signal.SIGTERM)
        self._watch = SignalWatch(numbers, self._on_signal)

    def _on_signal(self, number: signal.Signals) -> None:
        kept = f'last checkpoint: {self._last_checkpoint()}'
        if not self.has_progress:
            end_now(number, f'{_NAMES[number]} before the first step was done, nothing to save; {kept}')
        elif self._received is None:
            self._received = number
            if self._is_distributed:
                os.kill(os.getpid(), signal.SIGTERM)  # As if to this process: JAX notifies the others.
        elif number == signal.SIGINT:
            end_now(number, f'interrupted twice, and ended without saving; {kept}')

    def is_due(self, step: int) -> bool:
        """Whether to stop after this step, the same on all processes; each must ask after every step."""
        if self._is_distributed:
            return multihost_utils.reached_preemption_sync_point(step)
        return self._received is not None

    def error(self, step: int) -> Preempted:
        """The error to raise once the state of a step is saved."""
        kind = Interrupted if self._received == signal.SIGINT else Preempted
        name = _NAMES[self._received or signal.SIGTERM]
        return kind(f'{name}: saved at step {step}, where the same command resumes')

    def close(self) -> None:
        """Leaves the signals to whoever had them before."""
        self._watch.close()


_NAMES = {signal.SIGINT: 'interrupted', signal.SIGTERM: 'preempted by SIGTERM'}
