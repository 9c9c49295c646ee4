"""Mean average precision against scikit-learn's."""

import jax
import jax.numpy as jnp
import numpy as np
from sklearn.metrics import average_precision_score

from nfnets.evaluation.average_precision import add_scores, mean_average_precision, tally_shape

CLASSES, COUNT = 12, 2000


def _examples():
    """Log-odds, of which some are beyond the bins, labels, of which class 3 has none, and which count."""
    rng = np.random.default_rng(0)
    labels = rng.uniform(size=(COUNT, CLASSES)) < rng.uniform(0.005, 0.3, CLASSES)
    labels[:, 3] = False
    scores = 5 * rng.normal(size=(COUNT, CLASSES)) - 6 + 4 * labels
    return scores.astype(np.float32), labels.astype(np.float32), np.arange(COUNT) % 7 > 0


def _expected(scores, labels):
    found = [k for k in range(CLASSES) if labels[:, k].any()]
    return np.mean([average_precision_score(labels[:, k], scores[:, k]) for k in found])


def test_it_is_scikit_learns_of_rounded_scores_and_close_to_that_of_the_scores():
    scores, labels, counts = _examples()
    tally = jnp.zeros(tally_shape(CLASSES), jnp.int32)
    for part in np.split(np.arange(COUNT), 4):
        mask = jnp.asarray(counts[part], jnp.float32)
        tally = jax.jit(add_scores)(tally, scores[part], labels[part], mask)
    assert int(tally.sum()) == counts.sum() * CLASSES
    actual = mean_average_precision(np.asarray(tally))
    rounded = np.floor(32 * np.clip(scores, -16, 16 - 1 / 32))
    assert np.any(rounded != np.floor(32 * scores))
    np.testing.assert_allclose(actual, _expected(rounded[counts], labels[counts]), rtol=1e-12)
    np.testing.assert_allclose(actual, _expected(scores[counts], labels[counts]), atol=1e-3)
    assert 0.1 < actual < 0.9


def test_classes_whose_examples_are_all_in_one_bin_have_the_precision_of_their_share():
    tally = np.zeros(tally_shape(2), np.int32)
    tally[:, 0, 500] = 30, 10
    tally[1, 1, 7] = 5
    np.testing.assert_allclose(mean_average_precision(tally), np.mean([0.25, 1.0]))


def test_scores_beyond_the_bins_are_in_the_outer_ones():
    scores, labels = jnp.array([[100.0, -100.0]]), jnp.array([[1.0, 0.0]])
    tally = np.asarray(add_scores(jnp.zeros(tally_shape(2), jnp.int32), scores, labels, jnp.ones(1)))
    assert [tuple(place) for place in np.argwhere(tally)] == [(0, 1, 0), (1, 0, tally.shape[2] - 1)]
