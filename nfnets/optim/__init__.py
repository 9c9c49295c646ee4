"""Adaptive gradient clipping, the paper's chain of transformations, and the average of parameters."""
