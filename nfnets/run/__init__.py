"""The working directory of a training run, its processes, and the signals that end it."""
