"""What the command line runs: `nfnets-train` and the others, and `scripts/*.py` in a clone."""
