"""The order of examples, resuming, sharding by process, and what is broken."""

import collections
import dataclasses
import errno
import functools
import gc
import threading
import time
import weakref

import jax
import numpy as np
import pytest

from nfnets import build
from nfnets.config import complete
from nfnets.configs import default
from nfnets.data import pipeline, stream
from nfnets.data.augment import augment
from nfnets.data.decode import TrainCrop
from nfnets.data.order import Order
from nfnets.data.preprocessing import Preprocessing
from nfnets.data.source import Source
from nfnets.data.tensorflow import tf
from nfnets.errors import InputError, TrainingStopped
from nfnets.tasks import classification


class Numbered(Source):
    """Images of one color each, so that a decoded image tells which example it was."""

    def __init__(self, count, broken=(), labels=None):
        self._count = count
        self._broken = broken
        self._labels = labels
        self.class_names = tuple(str(i) for i in range(count))
        self.label_shape = ()

    def __len__(self):
        return self._count

    def read(self, index):
        if index in self._broken:
            return b'\x89PNG broken', index
        color = np.array([index % 16, index // 16, 7], np.uint8) * 16
        image = np.broadcast_to(color, (6, 6, 3))
        label = index if self._labels is None else self._labels[index]
        return tf.io.encode_png(image).numpy(), label

    def describe(self, index):
        return f'example {index}'


CROP = TrainCrop(size=4, margin=2, area=(0.3, 1.0), flip=True)


def _train(source, crop=CROP, **changed):
    settings = {'seed': 3, 'position': 0, 'batch_size': 12, 'skip_broken': False}
    return stream.train_batches(source, crop, **{**settings, **changed})


def _take(batches, count):
    taken = [next(batches) for _ in range(count)]
    batches.close()
    return taken


def _labels(batches, count):
    return np.concatenate([batch['labels'] for batch in _take(batches, count)])


def _eval(source, **changed):
    settings = {'batch_size': 16, 'skip_broken': False}
    return stream.eval_batches(source, Preprocessing(4, 2), **{**settings, **changed})


def test_batches_have_bytes_and_labels_that_belong_together():
    for batch in _take(_train(Numbered(40)), 3):
        assert batch['images'].shape == (12, 4, 4, 3)
        assert batch['images'].dtype == np.uint8
        assert batch['labels'].dtype == np.int32
        colors = batch['images'][:, 0, 0, :2].astype(int) // 16
        np.testing.assert_array_equal(colors[:, 0] + 16 * colors[:, 1], batch['labels'])


def test_every_epoch_has_every_example_once_in_an_order_of_its_own():
    labels = _labels(_train(Numbered(36)), 9).reshape(3, 36)
    for epoch in labels:
        assert sorted(epoch) == list(range(36))
    assert np.any(labels[0] != labels[1])
    again = _labels(_train(Numbered(36)), 9).reshape(3, 36)
    np.testing.assert_array_equal(labels, again)
    other = _labels(_train(Numbered(36), seed=4), 3)
    assert np.any(other != labels[0])


def test_epochs_go_over_into_each_other_within_a_batch():
    labels = _labels(_train(Numbered(10)), 5)  # 60 examples: six epochs of ten in batches of 12.
    for epoch in labels.reshape(6, 10):
        assert sorted(epoch) == list(range(10))


@pytest.mark.parametrize('processes', [2, 3])
def test_processes_share_the_batches_of_one(processes, as_process):
    whole = _take(_train(Numbered(40)), 5)
    parts = []
    for k in range(processes):
        as_process(k, processes)
        parts.append(_take(_train(Numbered(40)), 5))
    for step, batch in enumerate(whole):
        for name, value in batch.items():
            joined = np.concatenate([part[step][name] for part in parts])
            np.testing.assert_array_equal(joined, value)


def test_resuming_from_a_position_gives_the_same_batches_bit_for_bit():
    batches = _train(Numbered(40))
    for _ in range(4):
        next(batches)
    assert batches.position == 48  # What was read ahead does not count.
    rest = _take(batches, 3)
    resumed = _take(_train(Numbered(40), position=48), 3)
    for a, b in zip(rest, resumed, strict=True):
        np.testing.assert_array_equal(a['images'], b['images'])
        np.testing.assert_array_equal(a['labels'], b['labels'])


def test_an_example_is_cropped_anew_in_every_epoch():
    class Ramp(Numbered):
        def read(self, index):
            ramp = np.arange(48, dtype=np.uint8).reshape(4, 4, 3) * 5
            return tf.io.encode_png(np.kron(ramp, np.ones((8, 8, 1), np.uint8))).numpy(), index

    # Of a single example each batch holds twelve epochs.
    (batch,) = _take(_train(Ramp(1), dataclasses.replace(CROP, flip=False)), 1)
    assert len({image.tobytes() for image in batch['images']}) > 6


@pytest.mark.parametrize('processes', [1, 2, 4])
def test_37_examples_are_evaluated_as_37_by_any_number_of_processes(processes, as_process):
    seen = []
    counts = set()
    for k in range(processes):
        as_process(k, processes)
        batches = list(_eval(Numbered(37)))
        counts.add(len(batches))
        for batch in batches:
            assert batch['images'].dtype == np.float32
            assert batch['images'].shape == (16 // processes, 4, 4, 3)
            seen += batch['labels'][batch['mask'] > 0].tolist()
            np.testing.assert_array_equal(batch['indices'], batch['labels'])
    assert counts == {3}
    assert sorted(seen) == list(range(37))


class Counted(Numbered):
    """Numbers what it is asked for."""

    def __init__(self, count):
        super().__init__(count)
        self.reads = collections.Counter()

    def read(self, index):
        self.reads[index] += 1
        ramp = np.arange(48, dtype=np.uint8).reshape(4, 4, 3) * 5
        return tf.io.encode_png(np.kron(ramp, np.ones((8, 8, 1), np.uint8))).numpy(), index


def test_crops_of_an_image_are_in_one_batch_of_one_device_apart_from_each_other():
    source = Counted(4096)  # More than are read ahead.
    # Two devices: rounds of two of the four images of each, three crops of each.
    batches = _take(_train(source, batch_size=8, repeats=3, per_round=2), 6)
    order = Order(4096, seed=3)(np.arange(48)).reshape(6, 4, 2)
    for batch, images in zip(batches, order, strict=True):
        expected = [np.tile(pair, 3) for pair in images]
        np.testing.assert_array_equal(batch['labels'], np.concatenate(expected))
        for label in images.flat:
            crops = batch['images'][batch['labels'] == label]
            assert len({crop.tobytes() for crop in crops}) > 1
    assert set(source.reads.values()) == {1}


def test_crops_resume_and_are_shared_by_processes_bit_for_bit(as_process):
    settings = {'repeats': 2, 'per_round': 3}
    batches = _train(Counted(40), **settings)
    for _ in range(2):
        next(batches)
    assert batches.position == 24  # Images, not crops.
    (rest,) = _take(batches, 1)
    parts = []
    for k in range(2):
        as_process(k, 2)
        parts += _take(_train(Counted(40), position=24, **settings), 1)
    for name, value in rest.items():
        np.testing.assert_array_equal(np.concatenate([part[name] for part in parts]), value)
    # The same crops, however many devices share the batch.
    as_process(0, 1)
    (other,) = _take(_train(Counted(40), position=24, repeats=2, per_round=6), 1)
    assert sorted(x.tobytes() for x in other['images']) == sorted(x.tobytes() for x in rest['images'])


@pytest.mark.parametrize('partners', ['fresh', 'batch'])
def test_no_image_is_mixed_with_a_crop_of_itself(partners):
    settings = {'model__num_classes': 48, 'data__repeats': 3, 'train__batch_size': 24}
    settings |= {'augment__partners': partners, 'train__steps': 9, 'optimizer__warmup_steps': 1.0}
    config = default.get_config()
    config.update_from_flattened_dict({key.replace('__', '.'): value for key, value in settings.items()})
    config.data.train_size, config.augment.randaugment_layers = 8, 0
    config = complete(config, num_examples=48, num_classes=48, num_devices=2)

    @jax.jit
    def mixed(images, labels):
        batch = augment(classification.augmentation(config), jax.random.key(0), images, labels)
        return batch.labels, batch.mix_labels

    for batch in _take(build.train_batches(config, Counted(48), 0, num_devices=2), 2):
        images, all_labels = (x.reshape(2, -1, *x.shape[1:]) for x in batch.values())
        for device in range(2):
            labels, mix_labels = mixed(images[device], all_labels[device])
            assert sorted(collections.Counter(labels.tolist()).values()) == [3] * 4
            assert np.all(labels != mix_labels)


def test_a_broken_image_is_named():
    batches = _train(Numbered(12, broken=(5,)))
    with pytest.raises(InputError, match=r'^example 5 cannot be decoded .*data\.skip_broken=True'):
        next(batches)
    batches.close()
    with pytest.raises(InputError, match=r'^example 36 cannot be decoded'):
        list(_eval(Numbered(37, broken=(36,))))


def test_broken_images_are_counted_and_replaced_on_demand():
    batches = _train(Numbered(12, broken=(5, 7)), skip_broken=True)
    taken = _take(batches, 2)
    assert batches.skipped == 4
    for batch in taken:
        assert not {5, 7} & set(batch['labels'].tolist())
        assert set(range(12)) - {5, 7} == set(batch['labels'].tolist())
        colors = batch['images'][:, 0, 0, 0].astype(int) // 16
        np.testing.assert_array_equal(colors, batch['labels'])


def test_broken_images_are_skipped_in_an_evaluation_on_demand():
    batches = _eval(Numbered(37, broken=(0, 36)), skip_broken=True)
    seen = [x for b in batches for x in b['labels'][b['mask'] > 0]]
    assert sorted(seen) == list(range(1, 36))
    assert batches.skipped == 2


class WithSets(Numbered):
    """Sets of up to three labels; that of example 5 is empty."""

    label_shape = property(lambda self: (3,), lambda self, shape: None)

    def read(self, index):
        encoded, label = super().read(index)
        return encoded, np.array([-1, -1, -1] if index == 5 else [label, 2, -1], np.int32)


def test_sets_of_labels_are_trained_on_and_an_empty_one_where_it_says_something():
    for batch in _take(_train(WithSets(12), needs_label=False), 2):
        colors = batch['images'][:, 0, 0, 0].astype(int) // 16
        expected = [[-1, -1, -1] if c == 5 else [c, 2, -1] for c in colors]
        np.testing.assert_array_equal(batch['labels'], expected)
    batches = _train(WithSets(12))
    with pytest.raises(InputError, match=r"^example 5 has no label; train\.loss='sigmoid' would"):
        next(batches)
    batches.close()


def test_sets_with_labels_outside_of_the_classes_and_empty_ones_are_skipped_on_demand():
    labels = [*range(11), 12]
    batches = _train(WithSets(12, labels=labels))
    with pytest.raises(InputError, match=r'^example 11 has the label 12; the 12 classes have 0 to 11'):
        list(batches)
    batches.close()
    batches = _train(WithSets(12, labels=labels), skip_broken=True)
    (batch,) = _take(batches, 1)
    assert batches.skipped == 2
    assert set(batch['labels'][:, 0].tolist()) == set(range(11)) - {5}


def test_sets_of_labels_are_evaluated():
    class Broken(WithSets):
        def read(self, index):
            if index == 4:
                raise OSError('gone')
            return super().read(index)

    batches = list(_eval(Broken(20), skip_broken=True))
    masked = np.concatenate([b['labels'] * b['mask'][:, None] for b in batches])
    expected = np.stack([np.arange(20), np.full(20, 2), np.full(20, -1)], axis=1)
    expected[4], expected[5] = 0, -1
    np.testing.assert_array_equal(masked[:20], expected)


def test_a_batch_of_broken_images_alone_stops():
    batches = _train(Numbered(12, broken=range(12)), skip_broken=True)
    with pytest.raises(InputError, match='none of the 12 images'):
        next(batches)
    batches.close()


@pytest.mark.parametrize('label', [-1, 20])
def test_a_label_outside_of_the_classes_is_named(label):
    batches = _train(Numbered(20, labels=[label] * 20))
    with pytest.raises(InputError, match=rf'^example .* has the label {label}; .* 0 to 19'):
        next(batches)
    batches.close()


def test_a_file_that_cannot_be_read_is_named():
    class Gone(Numbered):
        def read(self, index):
            raise FileNotFoundError(2, 'No such file or directory', f'{index}.jpg')

    batches = _train(Gone(12))
    with pytest.raises(InputError, match=r'^example \d+ cannot be read: .*No such file'):
        next(batches)
    batches.close()


@pytest.mark.parametrize('skip_broken', [False, True])
@pytest.mark.parametrize(
    ('error', 'message'),
    [
        (MemoryError(), 'out of memory of the host'),
        (OSError(errno.ENOMEM, 'Cannot allocate memory'), 'Cannot allocate memory'),
        (OSError(errno.EMFILE, 'Too many open files'), 'Too many open files'),
    ],
)
def test_what_the_host_lacks_is_no_broken_image(error, message, skip_broken, monkeypatch):
    def read(self, index):
        raise error

    monkeypatch.setattr(Numbered, 'read', read)
    batches = _train(Numbered(12), skip_broken=skip_broken)
    with pytest.raises(TrainingStopped, match=rf'^example \d+ cannot be read: .*{message}'):
        next(batches)
    assert batches.skipped == 0
    batches.close()


class Slow(Numbered):
    """Gives nothing before so many are asked for."""

    def __init__(self, count, at_once):
        super().__init__(count)
        self.asked = 0
        self._at_once = at_once
        self._changed = threading.Condition()

    def start(self, index):
        with self._changed:
            self.asked += 1
            self._changed.notify_all()
        return functools.partial(self._wait, index)

    def _wait(self, index):
        with self._changed:
            assert self._changed.wait_for(lambda: self.asked >= self._at_once, timeout=30)
        return self.read(index)


def test_a_bucket_is_asked_for_many_images_at_once_but_no_more_than_a_few_batches_ahead():
    at_once = pipeline._READ_AT_ONCE
    assert at_once > pipeline._READERS  # That wait for them.
    source = Slow(40, at_once)
    batches = _train(source, batch_size=at_once)
    next(batches)
    asked = 0
    while asked < source.asked:
        asked = source.asked
        time.sleep(0.5)
    batches.close()
    assert asked <= 8 * at_once


@pytest.mark.parametrize('batch_size', [1, 12, 100])
def test_images_that_come_late_come_in_order(batch_size):
    class Late(Numbered):
        def start(self, index):
            time.sleep(index % 3 / 500)
            return super().start(index)

    labels = _labels(_train(Late(40), batch_size=batch_size), -(-200 // batch_size))
    expected = Order(40, seed=3)(np.arange(len(labels)))
    np.testing.assert_array_equal(labels, expected)


def test_closing_drops_tensorflows_iterator_at_once_and_may_come_twice():
    batches = _train(Numbered(12))
    next(batches)
    dropped = weakref.ref(batches._pipeline._batches)
    gc.disable()
    try:
        batches.close()
        assert dropped() is None
    finally:
        gc.enable()
    batches.close()
    with pytest.raises(StopIteration):
        next(batches)
