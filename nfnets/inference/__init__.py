"""For who has a checkpoint: evaluation, prediction, conversion."""
