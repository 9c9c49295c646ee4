"""Evaluation: every example once, whatever the batch and the devices; and probes of features."""
