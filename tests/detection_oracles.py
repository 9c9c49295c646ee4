"""What tests of detection share: boxes, and their overlap one by one."""

import numpy as np


def random_boxes(rng, count, side=100.0):
    """Boxes float32 [count, 4] of 1 px and more within so many px."""
    starts = rng.uniform(0, 0.8 * side, (count, 2))
    stops = starts + rng.uniform(1, 0.5 * side, (count, 2))
    return np.concatenate([starts, stops], axis=1).astype(np.float32)


def iou(a, b):
    """Intersection over union of two boxes [4]."""
    width = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
    height = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    shared = width * height
    return shared / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared)
