"""Several sources as one, mixed by weights in training."""

from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np

from nfnets.data.order import Order
from nfnets.data.source import Example, Label, Source, check_same_classes, label_set

_BLOCK = 4096  # Places that are shuffled together.
_WHOLE = 1 << 40  # Sum of weights that are no whole numbers, once they are.


class Mixture(Source):
    """The examples of several sources, those of each after those of the one before it.

    An epoch has as many examples as all sources together. In training each source gives a part of them by its
    weight, and passes its own examples again and again: each comes once in each such pass.

    Attributes:
      class_names: those of the source that has the most; the others may lack the last of them.
      label_shape: () if every source has one label an example; else [L], where L is the most that one has.
    """

    def __init__(self, sources: Mapping[str, Source], weights: Sequence[float] | None):
        """Puts sources together.

        Args:
          sources: at least one, by names for messages.
          weights: how many of the images each gives, in proportion, above 0; None: as many as it has.

        Raises:
          InputError: two sources name a class otherwise.
        """
        self._names, self._sources = tuple(sources), tuple(sources.values())
        self._sizes = [len(source) for source in self._sources]
        self._ends = np.cumsum(self._sizes)
        self._weights = self._sizes if weights is None else _whole(weights)
        most = max(sources, key=lambda name: len(sources[name].class_names))
        self.class_names = sources[most].class_names
        for name, source in sources.items():
            check_same_classes(self.class_names, most, source.class_names, name)
        self.label_shape = max(source.label_shape for source in self._sources)  # () is less than any [L].
        self.warnings = tuple(f'{name}: {line}' for name in sources for line in sources[name].warnings)

    def __len__(self) -> int:
        return int(self._ends[-1])

    def order(self, seed: int) -> Callable[[np.ndarray], np.ndarray]:
        return MixedOrder(self._sizes, self._weights, seed)

    def read(self, index: int) -> Example:
        return self.start(index)()

    def start(self, index: int) -> Callable[[], Example]:
        number, own = self._locate(index)
        read = self._sources[number].start(own)
        return lambda: self._as_one_of_all(*read())

    def describe(self, index: int) -> str:
        number, own = self._locate(index)
        return f'{self._names[number]}: {self._sources[number].describe(own)}'

    def summary(self) -> str:
        total = sum(self._weights)
        parts = [
            f'{100 * weight / total:.3g}% of {name}, {len(self) * weight / total / size:.3g} passes'
            for name, weight, size in zip(self._names, self._weights, self._sizes, strict=True)
        ]
        return f'{super().summary()} an epoch ({"; ".join(parts)})'

    def _locate(self, index: int) -> tuple[int, int]:
        number = int(np.searchsorted(self._ends, index, side='right'))
        return number, index - int(self._ends[number]) + self._sizes[number]

    def _as_one_of_all(self, encoded: bytes, label: Label) -> Example:
        return encoded, label_set(np.atleast_1d(label), *self.label_shape) if self.label_shape else label


class MixedOrder:
    """Index in a mixture of the example at each position; keeps the blocks of positions in use.

    Before any block each source has given its weight's part of the examples, to within a few. A block is
    shuffled. Each source goes through its examples in an order of its own.
    """

    def __init__(self, sizes: Sequence[int], weights: Sequence[int], seed: int):
        """Args: sizes and weights of the sources, whole numbers above 0; seed of the run."""
        self._epoch, self._weights = sum(sizes), weights
        self._begins = np.cumsum([0, *sizes[:-1]])
        # With one seed, copies of a set would come in one order.
        self._seed, *seeds = np.random.SeedSequence(seed).generate_state(len(sizes) + 1, np.uint64).tolist()
        self._orders = [Order(size, own) for size, own in zip(sizes, seeds, strict=True)]
        self._blocks: dict[int, tuple[np.ndarray, np.ndarray]] = {}

    def __call__(self, positions: np.ndarray) -> np.ndarray:
        """Positions in the stream, int64 [N], to indices of examples in the mixture, int64 [N]."""
        places = positions % self._epoch % _BLOCK
        firsts = positions - places
        known = self._blocks
        self._blocks = {f: known[f] if f in known else self._block(f) for f in np.unique(firsts).tolist()}
        indices = np.empty_like(positions)
        for first, (numbers, own) in self._blocks.items():
            here = firsts == first
            indices[here] = self._indices(numbers[places[here]], own[places[here]])
        return indices

    def _indices(self, numbers: np.ndarray, own: np.ndarray) -> np.ndarray:
        """From sources and positions in their own streams to indices in the mixture, all int64 [N]."""
        indices = self._begins[numbers]
        for number in np.unique(numbers).tolist():
            indices[numbers == number] += self._orders[number](own[numbers == number])
        return indices

    def _block(self, first: int) -> tuple[np.ndarray, np.ndarray]:
        """The source of each place of the block from a position on, and the position in that one's stream."""
        size = min(_BLOCK, self._epoch - first % self._epoch)
        streams = list(_streams(first, size, self._weights))
        numbers = np.empty(size, np.int64)
        for number, (_, places) in enumerate(streams):
            numbers[places] = number
        np.random.default_rng((self._seed, first)).shuffle(numbers)
        own = np.empty(size, np.int64)
        for number, (before, places) in enumerate(streams):
            own[numbers == number] = before + np.arange(len(places))
        return numbers, own


def _streams(first: int, size: int, weights: Sequence[int]) -> Iterator[tuple[int, np.ndarray]]:
    """For each source how many of the first examples are its, and which of the `size` places after these.

    The first source gives its weight's part of all examples, to the nearest whole number, the second its part
    of what is left, and so on: the counts never fall and add up to the examples, and those of any place are
    found at once.
    """
    places = np.arange(size)  # Whose source is not found yet.
    for number, weight in enumerate(weights):
        total = sum(weights[number:])
        before, rest = divmod(first * weight + total // 2, total)  # Python's whole numbers have no limit.
        is_its = np.diff((rest + np.arange(len(places) + 1) * weight) // total) > 0
        yield before, places[is_its]
        first, places = first - before, places[~is_its]


def _whole(weights: Sequence[float]) -> list[int]:
    """Weights as whole numbers, whose products with the places of a block are below 2^63."""
    total = sum(weights)
    return [max(1, round(weight / total * _WHOLE)) for weight in weights]
