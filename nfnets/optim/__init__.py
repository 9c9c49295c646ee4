"""Adaptive gradient clipping, SAM, accumulation, the EMA, and the paper's chain of transformations."""
