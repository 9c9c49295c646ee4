"""Haiku modules of the networks, their layers and families, and what is known of them without data."""
