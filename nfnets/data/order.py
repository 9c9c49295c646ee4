"""The order of examples: a function of seed and epoch alone.

Up to 4,194,304 examples it is NumPy's permutation, an array of 8 bytes for each: 10 MB for ImageNet's
1,281,167, but 32 GB for 4 billion. Of more examples each index is computed when it is wanted.
"""

import math
from collections.abc import Callable, Sequence

import numpy as np

_MOST_IN_MEMORY = 1 << 22  # Examples.
_ROUNDS = 8  # Even, so that both halves end on their own side.


class Order:
    """Index of the example at each position; keeps the permutations of the epochs in use."""

    def __init__(self, num_examples: int, seed: int):
        """Args: num_examples of the split; seed of the run."""
        self._num_examples = num_examples
        self._seed = seed
        self._permutations: dict[int, Callable[[np.ndarray], np.ndarray]] = {}

    def __call__(self, positions: np.ndarray) -> np.ndarray:
        """Positions in the stream, int64 [N], to indices of examples, int64 [N]."""
        epochs, offsets = np.divmod(positions, self._num_examples)
        known = self._permutations
        self._permutations = {
            int(e): known[e] if e in known else self._permutation(int(e)) for e in np.unique(epochs)
        }
        indices = np.empty_like(positions)
        for epoch, permutation in self._permutations.items():
            indices[epochs == epoch] = permutation(offsets[epochs == epoch])
        return indices

    def _permutation(self, epoch: int) -> Callable[[np.ndarray], np.ndarray]:
        key = self._seed, epoch
        if self._num_examples > _MOST_IN_MEMORY:
            return Cipher(self._num_examples, key)
        return np.random.default_rng(key).permutation(self._num_examples).take


class Cipher:
    """A pseudo-random permutation of 0 .. size - 1 by a key, without an array.

    A number is a pair of digits, of which each round shifts one by a keyed hash of the other; pairs beyond
    the size take the rounds again: the generalized Feistel cipher with cycle walking of Black and Rogaway,
    "Ciphers with Arbitrary Finite Domains" (2002). The hash is the finalizer of SplitMix64.
    """

    def __init__(self, size: int, key: Sequence[int]):
        """Args: size, from 1 to 2^62; key, whole numbers of 0 or more."""
        self._size = size
        lower = math.isqrt(size - 1) + 1  # So fewer than this many pairs lie beyond the size.
        self._bases = np.array([lower, -(-size // lower)], np.uint64)
        self._keys = np.random.SeedSequence(key).generate_state(_ROUNDS, np.uint64)

    def __call__(self, numbers: np.ndarray) -> np.ndarray:
        """Where the permutation puts numbers, int64 [N] as they are."""
        found = self._encrypt(numbers.astype(np.uint64))
        while (beyond := found >= self._size).any():
            found[beyond] = self._encrypt(found[beyond])
        return found.astype(np.int64)

    def _encrypt(self, numbers: np.ndarray) -> np.ndarray:
        high, low = np.divmod(numbers, self._bases[0])
        for i, key in enumerate(self._keys):
            low, high = high, (low + _hash(high ^ key)) % self._bases[i % 2]
        return high * self._bases[0] + low


def _hash(words: np.ndarray) -> np.ndarray:
    """Spreads each word, uint64 [N], over 63 bits, so that a digit can be added to it."""
    words = (words ^ (words >> 30)) * 0xBF58476D1CE4E5B9
    words = (words ^ (words >> 27)) * 0x94D049BB133111EB
    return (words ^ (words >> 31)) >> 1
