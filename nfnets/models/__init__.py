"""Haiku modules of the networks."""
