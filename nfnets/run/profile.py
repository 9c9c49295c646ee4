"""A trace of some steps, for XProf and TensorBoard."""

import jax
from etils import epath

_SKIPPED = 2  # The first step compiles, and the second may still wait for its parts.


class Profile:
    """Traces a number of steps of a run, soon after its start, into WORKDIR/plugins/profile."""

    def __init__(self, workdir: epath.Path, first_step: int, num_steps: int):
        """Args: first_step that the run does now; num_steps to trace, 0 for none."""
        self._workdir = workdir
        self._begin = first_step + _SKIPPED
        self._end = self._begin + num_steps
        self._is_on = False

    def before(self, step: int) -> None:
        """Call before each step is started."""
        if self._begin <= step < self._end and not self._is_on:
            jax.profiler.start_trace(str(self._workdir))
            self._is_on = True

    def after(self, step: int, metrics: dict[str, jax.Array]) -> str:
        """Call when a step was started; returns what to say, if anything."""
        if step + 1 != self._end or not self._is_on:
            return ''
        jax.block_until_ready(metrics)
        self.close()
        return f'trace of steps {self._begin} to {step}: {self._workdir}/plugins/profile'

    def close(self) -> None:
        """Writes what was traced until now."""
        if self._is_on:
            jax.profiler.stop_trace()
            self._is_on = False
