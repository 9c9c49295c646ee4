"""What ends a run with one line instead of a traceback."""


class InputError(ValueError):
    """Something given from outside is wrong: a setting, a file, a data set, a working directory.

    The message is one line that names the thing, its value, and what would be accepted. The scripts
    print that line and exit with status 2; anything else that escapes is a bug of this project.
    """


class TrainingStopped(RuntimeError):
    """Training cannot go on, through no mistake of the code; the message says at which step and why.

    The scripts print it and exit with status 1. What was checkpointed before stays.
    """


class Diverged(TrainingStopped):
    """The loss or the gradients are not numbers any more."""


class Preempted(Exception):
    """SIGTERM came to the run, and its state is saved: the same command resumes it.

    The scripts print it and exit with status 75.
    """


class Interrupted(Preempted):
    """As `Preempted`, by Ctrl-C; exit status 130."""
