"""The chain from decoded images to a normalised batch."""

import jax
import jax.numpy as jnp
import numpy as np

from nfnets.data.augment import augment, normalise

NONE = {'mixup_alpha': 0.0, 'cutmix': False, 'randaugment_layers': 0, 'randaugment_magnitude': 5}
MEAN, STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])


def _images(count, size=8):
    return np.random.default_rng(count).integers(0, 256, (count, size, size, 3)).astype(np.uint8)


def test_normalise_is_the_formula_for_bytes_and_floats():
    images = _images(2)
    expected = (images / 255.0 - MEAN) / STD
    np.testing.assert_allclose(normalise(images), expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(normalise(images.astype(np.float32)), expected, rtol=1e-5, atol=1e-6)


def test_without_augmentation_images_are_only_normalised():
    images, labels = _images(5), jnp.arange(5)
    out = augment(jax.random.key(0), images, labels, partners='batch', **NONE)
    np.testing.assert_array_equal(out.images, normalise(images))
    np.testing.assert_array_equal(out.labels, labels)
    np.testing.assert_array_equal(out.ratio, 1)


def test_partners_of_the_batch_are_other_images_of_it():
    images, labels = _images(6), jnp.arange(6)
    settings = {**NONE, 'cutmix': True}
    out = augment(jax.random.key(0), images, labels, partners='batch', **settings)
    assert out.images.shape == images.shape
    np.testing.assert_array_equal(out.mix_labels, np.roll(np.arange(6), 1))
    own, other = normalise(images), normalise(np.roll(images, 1, axis=0))
    is_own = np.all(out.images == own, axis=-1)
    assert np.all(is_own | np.all(out.images == other, axis=-1))
    np.testing.assert_allclose(is_own.mean((1, 2)), out.ratio, rtol=1e-6)
    assert np.any(out.ratio < 1)


def test_fresh_partners_are_the_second_half_of_what_was_decoded():
    images, labels = _images(12), jnp.arange(12)
    settings = {**NONE, 'cutmix': True}
    out = augment(jax.random.key(0), images, labels, partners='fresh', **settings)
    assert out.images.shape == (6, 8, 8, 3)
    np.testing.assert_array_equal(out.labels, np.arange(6))
    np.testing.assert_array_equal(out.mix_labels, np.arange(6, 12))
    first, second = normalise(images[:6]), normalise(images[6:])
    of_first = np.all(out.images == first, axis=-1)
    assert np.all(of_first | np.all(out.images == second, axis=-1))
    np.testing.assert_allclose(of_first.mean((1, 2)), out.ratio, rtol=1e-6)


def test_randaugment_sees_whole_levels_and_changes_images():
    images, labels = _images(32, 16), jnp.arange(32)
    settings = {**NONE, 'mixup_alpha': 0.2, 'randaugment_layers': 2, 'randaugment_magnitude': 10}
    out = augment(jax.random.key(0), images, labels, partners='batch', **settings)
    levels = np.asarray(out.images) * (255 * STD) + 255 * MEAN
    np.testing.assert_allclose(levels, np.rint(levels), atol=1e-3)
    assert levels.min() > -0.01
    assert levels.max() < 255.01
