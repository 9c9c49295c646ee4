"""ImageNet (ILSVRC 2012): its size, and the names of its classes, WordNet 3.0's synsets and their words."""

import functools
import importlib.resources

NUM_TRAIN_IMAGES = 1_281_167
NUM_CLASSES = 1000


@functools.cache
def imagenet_names() -> dict[str, str]:
    """{'n01440764': 'tench, Tinca tinca', ...}, in the order of the 1000 labels."""
    text = importlib.resources.files('nfnets.data').joinpath('imagenet_classes.txt').read_text()
    lines = [line for line in text.splitlines() if not line.startswith('#')]
    return dict(line.split(' ', 1) for line in lines)


def readable_names(class_names: tuple[str, ...] | None, num_classes: int) -> tuple[str, ...]:
    """Names for people: words for identifiers, ImageNet's for 1000 classes without names."""
    words = imagenet_names()
    if class_names is not None:
        return tuple(words.get(name, name) for name in class_names)
    if num_classes == len(words):
        return tuple(words.values())
    return tuple(f'class {label}' for label in range(num_classes))
