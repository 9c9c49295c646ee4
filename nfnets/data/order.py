"""The order of examples: a function of seed and epoch alone."""

import numpy as np


class Order:
    """Index of the example at each position; keeps the permutations of the epochs in use."""

    def __init__(self, num_examples: int, seed: int):
        self._num_examples = num_examples
        self._seed = seed
        self._permutations: dict[int, np.ndarray] = {}

    def __call__(self, positions: np.ndarray) -> np.ndarray:
        epochs, offsets = np.divmod(positions, self._num_examples)
        known = self._permutations
        self._permutations = {
            int(e): known[e] if e in known else self._permutation(int(e)) for e in np.unique(epochs)
        }
        indices = np.empty_like(positions)
        for epoch, permutation in self._permutations.items():
            indices[epochs == epoch] = permutation[offsets[epochs == epoch]]
        return indices

    def _permutation(self, epoch: int) -> np.ndarray:
        return np.random.default_rng([self._seed, epoch]).permutation(self._num_examples)
