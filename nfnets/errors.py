"""Errors that end a command with one line instead of a traceback."""


class InputError(ValueError):
    """Something given from outside is wrong: a setting, a file, a data set, a working directory.

    The message is one line that names the thing, its value, and what would be accepted. The commands
    print that line and exit with code 2; anything else that escapes is a bug of this project.
    """


class TrainingStopped(RuntimeError):
    """Training had to stop, through no bug of this project; the message says at which step and why.

    The commands print it and exit with code 1. What was checkpointed before stays.
    """


class Diverged(TrainingStopped):
    """The loss or the gradients are not numbers any more."""


class Preempted(Exception):
    """SIGTERM came to the run, and its state is saved: the same command resumes it.

    The commands print it and exit with code 75.
    """


class Interrupted(Preempted):
    """Ctrl-C came to the run, and its state is saved; exit code 130."""
