"""The published test sets for networks of ImageNet's 1000 classes, as TFDS has them, and how each is counted.

ReaL (arXiv 2006.07159), V2 (1902.10811), A (1907.07174), R (2006.16241) and Sketch (1905.13549), counted as
for the figures that timm publishes: of A and R only the logits of their 200 classes are kept.
"""

import functools
import importlib.resources
from typing import NamedTuple

from nfnets.data.imagenet import imagenet_names


class ImageNetSet(NamedTuple):
    """A set of images with labels among ImageNet's.

    Attributes:
      key: its short name here.
      name: in TFDS.
      split: in TFDS's syntax.
      has_subset: whether its labels are 200 of the 1000.
    """

    key: str
    name: str
    split: str = 'test'
    has_subset: bool = False

    @property
    def classes(self) -> tuple[int, ...] | None:
        """The labels whose logits are kept, in order; None: all."""
        return _subset(self.key) if self.has_subset else None


SETS = {
    each.key: each
    for each in (
        ImageNetSet('imagenet', 'imagenet2012', 'validation'),
        ImageNetSet('real', 'imagenet2012_real', 'validation'),
        ImageNetSet('v2', 'imagenet_v2/matched-frequency'),
        ImageNetSet('a', 'imagenet_a', has_subset=True),
        ImageNetSet('r', 'imagenet_r', has_subset=True),
        ImageNetSet('sketch', 'imagenet_sketch'),
    )
}


@functools.cache
def _subset(key: str) -> tuple[int, ...]:
    text = importlib.resources.files('nfnets.data').joinpath('imagenet_subsets.txt').read_text()
    lines = [line.split() for line in text.splitlines() if not line.startswith('#')]
    chosen = {synset for synset, keys in lines if key in keys}
    return tuple(label for label, synset in enumerate(imagenet_names()) if synset in chosen)
