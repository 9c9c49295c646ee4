"""The order of examples: NumPy's permutation where that fits, a keyed one of the same kind where not."""

import math
import time
import tracemalloc

import numpy as np
import pytest

from nfnets.data import order as order_lib
from nfnets.data import stream
from nfnets.data.decode import TrainCrop
from nfnets.data.digits import DigitsSource
from nfnets.data.order import Cipher, Order
from nfnets.data.source import Source

HUGE = 4_000_000_000


@pytest.mark.parametrize('size', [1, 7, 1000, 1 << 22])
def test_up_to_four_million_examples_it_is_numpys_permutation(size):
    expected = np.random.default_rng([5, 3]).permutation(size)
    np.testing.assert_array_equal(Order(size, seed=5)(3 * size + np.arange(size)), expected)


def _scalar_cipher(size, key, number):
    """The cipher by whole numbers of Python, from its description."""
    lower = math.isqrt(size - 1) + 1
    upper = -(-size // lower)
    keys = np.random.SeedSequence(key).generate_state(8, np.uint64).tolist()
    while True:
        low, high = number % lower, number // lower
        for i, round_key in enumerate(keys):
            z = high ^ round_key
            z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 % 2**64
            z = (z ^ z >> 27) * 0x94D049BB133111EB % 2**64
            z = (z ^ z >> 31) // 2
            low, high = high, (low + z) % (upper if i % 2 else lower)
        number = high * lower + low
        if number < size:
            return number


@pytest.mark.parametrize('size', [3, 90, 91, (1 << 22) + 1, HUGE, 1 << 62])
def test_the_cipher_is_that_of_its_description(size):
    numbers = np.unique(np.linspace(0, size - 1, 40).astype(np.int64).clip(0, size - 1))
    expected = [_scalar_cipher(size, (9, 2), number) for number in numbers.tolist()]
    np.testing.assert_array_equal(Cipher(size, (9, 2))(numbers), expected)


def test_the_cipher_is_a_permutation():
    for size in (*range(1, 200), 1023, 1024, 1025, 9999, 100_003):
        found = Cipher(size, (size, 1))(np.arange(size))
        np.testing.assert_array_equal(np.sort(found), np.arange(size))


def test_beyond_each_epoch_has_each_example_once_in_an_order_of_its_own(monkeypatch):
    monkeypatch.setattr(order_lib, '_MOST_IN_MEMORY', 100)
    order = Order(101, seed=1)
    # Batches that end within an epoch.
    epochs = np.concatenate([order(np.arange(i, i + 10)) for i in range(0, 1010, 10)]).reshape(10, 101)
    assert len({tuple(epoch) for epoch in epochs}) == 10
    for epoch in epochs:
        np.testing.assert_array_equal(np.sort(epoch), np.arange(101))
    assert np.any(Order(101, seed=2)(np.arange(101)) != epochs[0])


def _surprise(cells, num_cells):
    """How many standard deviations the counts of cells that are equally likely lie from what is expected."""
    counts = np.bincount(cells, minlength=num_cells)
    expected = len(cells) / num_cells
    chi_squared = np.sum((counts - expected) ** 2) / expected
    return (chi_squared - (num_cells - 1)) / math.sqrt(2 * (num_cells - 1))


def _bin(values, bins, size=HUGE):
    return values * bins // size


def test_the_order_of_four_billion_shows_no_structure():
    # Cells of pairs of what should not depend on each other; too even a spread would be structure, too.
    pairs = {name: [] for name in ('next', 'last bits of next', 'second next', 'place', 'epoch', 'seed')}
    for seed in range(8):
        first = seed * 123_456_789
        found = Cipher(HUGE, (seed, 0))(np.arange(first, first + 20_000))
        spread = np.arange(20_000) * (HUGE // 20_000)
        there = Cipher(HUGE, (seed, 0))(spread)
        pairs['next'].append(_bin(found[:-1:2], 16) * 16 + _bin(found[1::2], 16))
        pairs['last bits of next'].append(found[:-1:2] % 16 * 16 + found[1::2] % 16)
        pairs['second next'].append(_bin(found[:-2], 16) * 16 + _bin((found[2:] - found[:-2]) % HUGE, 16))
        pairs['place'].append(_bin(spread, 16) * 16 + _bin(there, 16))
        for name, key in (('epoch', (seed, 1)), ('seed', (seed + 8, 0))):
            pairs[name].append(_bin(there, 16) * 16 + _bin(Cipher(HUGE, key)(spread), 16))
    surprises = {name: _surprise(np.concatenate(cells), 256) for name, cells in pairs.items()}
    assert max(map(abs, surprises.values())) < 4, surprises


def test_as_many_examples_stay_at_their_place_as_by_chance():
    stay = [np.sum(Cipher(500, (epoch, 0))(np.arange(500)) == np.arange(500)) for epoch in range(1000)]
    # Of a random permutation: Poisson's distribution of mean 1.
    assert abs(np.mean(stay) - 1) < 4 / math.sqrt(1000)
    assert abs(np.var(stay) - 1) < 4 * math.sqrt(3 / 1000)


class IndexOnly(Source):
    """Four billion examples that are made from their index."""

    class_names = tuple(str(i) for i in range(1 << 16))
    warnings = ()

    def __init__(self):
        self._image, _ = DigitsSource('eval').read(0)

    def __len__(self):
        return HUGE

    def read(self, index):
        return self._image, index % (1 << 16)

    def describe(self, index):
        return f'example {index}'


def _labels(position, steps):
    settings = {'seed': 2, 'position': position, 'batch_size': 128, 'skip_broken': False}
    batches = stream.train_batches(IndexOnly(), TrainCrop(8, 0, (0.5, 1.0), flip=True), **settings)
    labels = [next(batches)['labels'] for _ in range(steps)]
    batches.close()
    return np.concatenate(labels)


def test_four_billion_examples_take_little_memory_and_start_at_once():
    _labels(0, 1)  # TensorFlow's own start.
    started = time.process_time()  # A busy machine stretches time of the clock.
    _labels(HUGE - 192, 1)
    assert time.process_time() - started < 2
    tracemalloc.start()  # It counts NumPy's arrays, too, and slows all down.
    labels = _labels(HUGE - 192, 3)  # The epoch ends within the second batch.
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 200e6
    expected = [_scalar_cipher(HUGE, (2, 0), HUGE - 1), _scalar_cipher(HUGE, (2, 1), 0)]
    assert labels[191:193].tolist() == [index % (1 << 16) for index in expected]


def test_a_stream_of_four_billion_examples_resumes():
    np.testing.assert_array_equal(_labels(HUGE - 192, 3)[128:], _labels(HUGE - 64, 2))
