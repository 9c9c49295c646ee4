"""Mixtures of sources: what each gives, in which order, and what does not go together."""

import time
import tracemalloc
from fractions import Fraction

import jax
import numpy as np
import pytest

from nfnets.data import mixture, stream
from nfnets.data.decode import TrainCrop
from nfnets.data.mixture import MixedOrder, Mixture
from nfnets.data.source import Source
from nfnets.data.tensorflow import tf
from nfnets.errors import InputError

HUGE = 4_000_000_000
SIZES = (10, 250, 37)
CROP = TrainCrop(size=4, margin=2, area=(0.3, 1.0), flip=True)


class Of(Source):
    """Examples with the labels given, -1 for a broken image; their color is their index."""

    def __init__(self, labels, classes='abcdef', label_shape=(), warnings=()):
        self._labels = labels
        self.class_names, self.label_shape, self.warnings = tuple(classes), label_shape, warnings

    def __len__(self):
        return len(self._labels)

    def read(self, index):
        label = self._labels[index]
        if np.ndim(label) == 0 and label < 0:
            return b'\x89PNG broken', 0
        return tf.io.encode_png(np.full((6, 6, 3), index, np.uint8)).numpy(), label

    def describe(self, index):
        return f'example {index}'


def _sources(indices):
    """The source of each index of `SIZES`, and the index there."""
    ends = np.cumsum(SIZES)
    numbers = np.searchsorted(ends, indices, side='right')
    return numbers, indices - (ends - SIZES)[numbers]


WEIGHTS = [SIZES, mixture._whole([0.5, 0.3, 0.2]), mixture._whole([0.1, 7.0, 30.0])]


@pytest.mark.parametrize('weights', WEIGHTS, ids=['sizes', 'fractions', 'far apart'])
def test_each_source_gives_its_part_and_passes_its_own_examples_once_a_pass(weights):
    epoch, count = sum(SIZES), 50_000
    order = MixedOrder(SIZES, weights, seed=3)
    # In pieces that end anywhere.
    indices = np.concatenate([order(np.arange(i, min(i + 777, count))) for i in range(0, count, 777)])
    numbers, own = _sources(indices)
    whole = count // epoch * epoch
    for number, size in enumerate(SIZES):
        expected = whole * Fraction(weights[number], sum(weights))
        assert abs(int(np.sum(numbers[:whole] == number)) - expected) <= 1
        mine = own[numbers == number]
        passes = mine[: len(mine) // size * size].reshape(-1, size)
        np.testing.assert_array_equal(np.sort(passes), np.broadcast_to(np.arange(size), passes.shape))
        assert len({tuple(each) for each in passes}) > 0.99 * len(passes)  # 10! orders are not many.
    if weights == SIZES:  # Then an epoch is one of all examples.
        epochs = indices[:whole].reshape(-1, epoch)
        np.testing.assert_array_equal(np.sort(epochs), np.broadcast_to(np.arange(epoch), epochs.shape))


def test_a_part_that_is_a_whole_number_is_exact():
    indices = MixedOrder((300, 300), mixture._whole([1.0, 2.0]), seed=0)(np.arange(5 * 600))
    np.testing.assert_array_equal(np.sum(indices.reshape(5, 600) < 300, axis=1), [200] * 5)


def test_any_place_is_found_without_those_before_it():
    indices = MixedOrder(SIZES, WEIGHTS[1], seed=3)(np.arange(20_000))
    for start in (1, 297, 4096, 12_345):
        found = MixedOrder(SIZES, WEIGHTS[1], seed=3)(np.arange(start, start + 500))
        np.testing.assert_array_equal(found, indices[start : start + 500])
    assert np.any(MixedOrder(SIZES, WEIGHTS[1], seed=4)(np.arange(500)) != indices[:500])


def test_within_a_block_the_sources_come_at_random():
    numbers = MixedOrder((100, 100), (1, 1), seed=0)(np.arange(20_000)) < 100
    follows = np.mean(numbers[1:] == numbers[:-1])
    assert abs(follows - 0.5) < 4 * 0.5 / np.sqrt(20_000)


def test_copies_of_a_set_come_in_orders_of_their_own():
    indices = MixedOrder((500, 500), (1, 1), seed=0)(np.arange(1000))
    assert np.any(indices[indices < 500] != indices[indices >= 500] - 500)


def test_four_billion_examples_among_others_take_little_memory_and_time():
    started = time.process_time()
    tracemalloc.start()  # It counts NumPy's arrays, too, and slows all down.
    order, first = MixedOrder((HUGE, 13_000_000, 100), mixture._whole([6, 3, 1]), seed=0), 10 * HUGE
    indices = np.concatenate([order(np.arange(i, i + 128)) for i in range(first, first + 12_800, 128)])
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert time.process_time() - started < 2
    assert peak < 2e6
    parts = [np.mean(indices < HUGE), np.mean(indices >= HUGE + 13_000_000)]
    np.testing.assert_allclose(parts, [0.6, 0.1], atol=0.01)


def _train(source, **changed):
    settings = {'seed': 3, 'position': 0, 'batch_size': 12, 'skip_broken': False}
    return stream.train_batches(source, CROP, **{**settings, **changed})


def _take(batches, count):
    taken = [next(batches) for _ in range(count)]
    batches.close()
    return taken


MIXTURE = Mixture({'one': Of([0, 1, 2] * 5), 'two': Of([3, 4, 5] * 7)}, [1, 3])


def test_batches_of_a_mixture_are_shared_by_processes_and_resume(monkeypatch):
    whole = _take(_train(MIXTURE), 6)
    for image, label in zip(whole[0]['images'][:, 0, 0, 0], whole[0]['labels'], strict=True):
        assert label in (image % 3, 3 + image % 3)
    for batch, again in zip(whole[2:], _take(_train(MIXTURE, position=24), 4), strict=True):
        np.testing.assert_array_equal(batch['images'], again['images'])
        np.testing.assert_array_equal(batch['labels'], again['labels'])
    parts = []
    monkeypatch.setattr(jax, 'process_count', lambda: 3)
    for k in range(3):
        monkeypatch.setattr(jax, 'process_index', lambda k=k: k)
        parts.append(_take(_train(MIXTURE), 6))
    for step, batch in enumerate(whole):
        for name, value in batch.items():
            np.testing.assert_array_equal(np.concatenate([part[step][name] for part in parts]), value)


def test_what_is_broken_is_counted_or_named_with_its_source():
    source = Mixture({'one': Of([0] * 20), 'two': Of([1] * 10 + [-1] * 10)}, None)
    batches = _train(source, skip_broken=True, batch_size=20)
    for batch in _take(batches, 2):
        assert set(batch['labels'].tolist()) == {0, 1}
    assert batches.skipped == 10  # Of an epoch.
    batches = _train(source, batch_size=20)
    with pytest.raises(InputError, match=r'^two: example 1\d .*cannot be decoded'):
        next(batches)
    batches.close()


def test_labels_beside_sets_of_labels_are_sets_of_one():
    sets = [np.array([1, 2, 5], np.int32), np.array([4, -1, -1], np.int32)]
    source = Mixture(
        {
            'one': Of([3]),
            'two': Of(sets, label_shape=(3,)),
            'three': Of([np.array([2], np.int32)], label_shape=(1,)),
        },
        None,
    )
    assert source.label_shape == (3,)
    found = [source.read(index)[1].tolist() for index in range(4)]
    assert found == [[3, -1, -1], [1, 2, 5], [4, -1, -1], [2, -1, -1]]


def test_classes_are_those_of_all_but_that_the_last_may_lack():
    fewer, all_of_them = Of([0], 'abc'), Of([0], 'abcdef')
    assert Mixture({'one': fewer, 'two': all_of_them}, None).class_names == tuple('abcdef')
    with pytest.raises(InputError, match=r"^label 1 of other is the class 'x', and one has 'b' there$"):
        Mixture({'one': all_of_them, 'other': Of([0], 'ax')}, None)


def test_a_mixture_says_what_it_is():
    source = Mixture({'one': Of([0] * 30, warnings=('no owl',)), 'two': Of([0] * 10)}, [1, 3])
    assert source.warnings == ('one: no owl',)
    assert source.summary() == '40 images an epoch (25% of one, 0.333 passes; 75% of two, 3 passes)'
