"""Confusion matrix and worst mistakes, against scikit-learn and a count by hand."""

import tracemalloc

import numpy as np
import pytest
from scipy.special import softmax
from sklearn import metrics

from nfnets.data.decode import decode_eval
from nfnets.data.digits import DigitsSource
from nfnets.data.preprocessing import Preprocessing
from nfnets.data.tensorflow import tf
from nfnets.errors import InputError
from nfnets.html_report.mistakes import (
    Predictions,
    confused_pairs,
    confusion_matrix,
    most_mistaken,
    predict_split,
    worst,
    worst_mistakes,
)
from nfnets.html_report.sheets import confusion

PREPROCESSING = Preprocessing(8, 0)


class _Predictor:
    """A linear network on the pixels."""

    preprocessing = PREPROCESSING

    def __call__(self, images):
        flat = images.reshape(len(images), -1)
        weights = np.random.default_rng(0).normal(size=(flat.shape[1], 10)).astype(np.float32)
        return softmax(flat @ weights / 1000, axis=1)


class _Broken(DigitsSource):
    """The digits, some of which cannot be decoded."""

    def read(self, index):
        encoded, label = super().read(index)
        return (b'broken' if index in (0, 40, 359) else encoded), label


def _predictions(count=300, num_classes=6):
    rng = np.random.default_rng(1)
    probabilities = rng.dirichlet(np.ones(num_classes), count).astype(np.float32)
    return Predictions(np.arange(count), rng.integers(0, num_classes, (count, 1)), probabilities)


def test_the_confusion_matrix_is_scikit_learns():
    predictions = _predictions()
    expected = metrics.confusion_matrix(predictions.labels, predictions.probabilities.argmax(1))
    for classes in (np.arange(6), np.array([1, 2, 5])):
        found = confusion_matrix(predictions, classes)
        np.testing.assert_array_equal(found, expected[classes][:, classes])
    assert np.mean(predictions.is_right) == pytest.approx(np.trace(expected) / 300)


def test_classes_that_never_come_are_in_the_matrix():
    predictions = Predictions(np.arange(1), np.array([[1]]), np.array([[0.1, 0.2, 0.7]]))
    found = confusion_matrix(predictions, np.arange(3))
    np.testing.assert_array_equal(found, [[0, 0, 0], [0, 0, 1], [0, 0, 0]])


def test_the_worst_mistakes_come_first_and_what_is_right_never():
    predictions = _predictions()
    losses = {
        i: -np.log(np.float64(p[label]))
        for i, (p, label) in enumerate(zip(predictions.probabilities, predictions.labels[:, 0], strict=True))
        if max(p) != p[label]
    }
    assert worst(predictions, 20).tolist() == sorted(losses, key=losses.get, reverse=True)[:20]
    assert len(worst(predictions, 1000)) == len(losses) < 300


def _with_matrix(matrix):
    """Predictions that have a confusion matrix."""
    labels, predicted = (np.repeat(x.ravel(), matrix.ravel()) for x in np.indices(matrix.shape))
    return Predictions(np.arange(len(labels)), labels[:, None], np.eye(len(matrix))[predicted])


def test_the_most_mistaken_classes_and_pairs_are_counted():
    predictions = _with_matrix(np.array([[9, 0, 1, 0], [0, 50, 0, 0], [5, 0, 9, 0], [0, 0, 2, 9]]))
    assert confused_pairs(predictions, 2) == [(2, 0, 5), (3, 2, 2)]
    assert confused_pairs(predictions, 10) == [(2, 0, 5), (3, 2, 2), (0, 2, 1)]
    assert most_mistaken(predictions, 2).tolist() == [0, 2]
    assert most_mistaken(predictions, 3).tolist() == [0, 2, 3]
    assert most_mistaken(predictions, 9).tolist() == [0, 1, 2, 3]
    assert confused_pairs(_with_matrix(np.diag([3, 4])), 2) == []


def test_thirty_thousand_classes_need_no_table_of_all_pairs():
    labels = np.array([[7], [29_999], [29_999]])
    predictions = Predictions(np.arange(3), labels, np.eye(1, 30_000, 7).repeat(3, axis=0))
    assert most_mistaken(predictions, 2).tolist() == [7, 29_999]
    assert confused_pairs(predictions, 2) == [(29_999, 7, 2)]
    tracemalloc.start()
    page = ''.join(
        ''.join(part.itertext()) for part in confusion(predictions, [f'c{k}' for k in range(30_000)])
    )
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert 'The 20 of 30000 classes with the most mistakes.' in page
    assert 'c29999 as c7 (2)' in page
    assert peak < 20e6


@pytest.mark.parametrize('most', [360, 50, 33])
def test_held_out_images_are_predicted_each_once_and_evenly_spaced(most):
    source = DigitsSource('eval')
    predictions = predict_split(_Predictor(), source, most=most, name='run', skip_broken=False)
    assert len(predictions.indices) == most
    gaps = np.diff(predictions.indices)
    assert predictions.indices[0] == 0
    assert predictions.indices[-1] == 359
    assert set(gaps) <= {359 // (most - 1), -(-359 // (most - 1))}
    for place in (0, 31, 32, most - 1):
        encoded, label = source.read(int(predictions.indices[place]))
        image = decode_eval(tf.constant(encoded), PREPROCESSING).numpy()
        np.testing.assert_allclose(predictions.probabilities[place], _Predictor()(image[None])[0], rtol=1e-4)
        assert predictions.labels[place] == label


def test_a_mistake_shows_its_own_image_and_what_it_is_taken_for():
    source = DigitsSource('eval')
    predictions = predict_split(_Predictor(), source, most=360, name='run', skip_broken=False)
    shown = worst_mistakes(_Predictor(), source, predictions, 40)
    assert len(shown) == 40
    assert np.all(np.diff([one.own_probability for one in shown]) >= 0)
    for one in shown:
        (index,) = (i for i in range(360) if source.describe(i) == one.where)
        encoded, label = source.read(index)
        pixels = decode_eval(tf.constant(encoded), PREPROCESSING).numpy()
        np.testing.assert_array_equal(one.pixels, np.clip(np.rint(pixels), 0, 255))
        probabilities = _Predictor()(pixels[None])[0]
        assert one.labels == (label,) != (one.predicted,) == (probabilities.argmax(),)
        assert one.probability == pytest.approx(probabilities.max(), rel=1e-4)
        assert one.own_probability == pytest.approx(probabilities[label], rel=1e-4)


def test_a_mistake_about_a_set_is_to_find_none_of_its_labels():
    probabilities = np.array([[0.9, 0.2, 0.3], [0.9, 0.2, 0.3], [0.1, 0.8, 0.05]], np.float32)
    predictions = Predictions(np.arange(3), np.array([[2, 0], [1, 2], [0, -1]]), probabilities)
    assert worst(predictions, 5).tolist() == [2, 1]
    np.testing.assert_allclose(predictions.own_probability, [0.9, 0.3, 0.1])


def test_a_network_without_a_mistake_shows_none():
    perfect = Predictions(np.arange(2), np.array([[0], [1]]), np.eye(2))
    assert worst_mistakes(_Predictor(), DigitsSource('eval'), perfect, 5) == []


def test_broken_images_are_skipped_or_named():
    broken = _Broken('eval')
    predictions = predict_split(_Predictor(), broken, most=360, name='run', skip_broken=True)
    assert predictions.indices.tolist() == [i for i in range(360) if i not in (0, 40, 359)]
    assert predictions.labels.tolist() == [[broken.read(i)[1]] for i in predictions.indices]
    assert len(predictions.probabilities) == 357
    with pytest.raises(InputError, match='cannot be decoded'):
        predict_split(_Predictor(), broken, most=360, name='run', skip_broken=False)
