"""The commands `nfnets-train`, `nfnets-evaluate` and so on, which `scripts/*.py` call in a clone."""
