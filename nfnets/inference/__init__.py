"""Using a checkpoint: evaluation, prediction, conversion."""
