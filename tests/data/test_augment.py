"""The chain from decoded images to a normalized batch."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nfnets.data.augment import Augmentation, augment, denormalize, normalize

NONE = Augmentation(
    partners='batch', mixup_alpha=0.0, cutmix=False, randaugment_layers=0, randaugment_magnitude=5
)
MEAN, STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])


def _images(count, size=8):
    return np.random.default_rng(count).integers(0, 256, (count, size, size, 3)).astype(np.uint8)


def test_normalize_is_the_formula_for_bytes_and_floats():
    images = _images(2)
    expected = (images / 255.0 - MEAN) / STD
    np.testing.assert_allclose(normalize(images), expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(normalize(images.astype(np.float32)), expected, rtol=1e-5, atol=1e-6)


def test_denormalize_gives_back_what_was_normalized():
    images = _images(2)
    np.testing.assert_allclose(denormalize(normalize(images)), images, atol=1e-3)


def test_two_images_are_read_for_one_where_partners_are_fresh_and_there_is_mixing():
    for partners, alpha, cutmix, mixes, count in (
        ('fresh', 0.2, True, True, 2),
        ('fresh', 0.2, False, True, 2),
        ('fresh', 0.0, True, True, 2),
        ('fresh', 0.0, False, False, 1),
        ('batch', 0.2, True, True, 1),
        ('batch', 0.0, False, False, 1),
    ):
        augmentation = dataclasses.replace(NONE, partners=partners, mixup_alpha=alpha, cutmix=cutmix)
        assert (augmentation.mixes, augmentation.images_per_example) == (mixes, count)


def test_fresh_partners_without_mixing_are_not_expected():
    images, labels = _images(4), jnp.arange(4)
    out = augment(dataclasses.replace(NONE, partners='fresh'), jax.random.key(0), images, labels)
    np.testing.assert_array_equal(out.images, normalize(images))


def test_without_augmentation_images_are_only_normalized():
    images, labels = _images(5), jnp.arange(5)
    out = augment(NONE, jax.random.key(0), images, labels)
    np.testing.assert_array_equal(out.images, normalize(images))
    np.testing.assert_array_equal(out.labels, labels)
    np.testing.assert_array_equal(out.ratio, 1)


def test_partners_of_the_batch_are_other_images_of_it():
    images, labels = _images(6), jnp.arange(6)
    out = augment(dataclasses.replace(NONE, cutmix=True), jax.random.key(0), images, labels)
    assert out.images.shape == images.shape
    np.testing.assert_array_equal(out.mix_labels, np.roll(np.arange(6), 1))
    own, other = normalize(images), normalize(np.roll(images, 1, axis=0))
    is_own = np.all(out.images == own, axis=-1)
    assert np.all(is_own | np.all(out.images == other, axis=-1))
    np.testing.assert_allclose(is_own.mean((1, 2)), out.ratio, rtol=1e-6)
    assert np.any(out.ratio < 1)


@pytest.mark.parametrize('partners', ['batch', 'fresh'])
def test_sets_of_labels_stay_whole(partners):
    sets = np.arange(18).reshape(6, 3)
    settings = dataclasses.replace(NONE, mixup_alpha=0.2, partners=partners)
    out = augment(settings, jax.random.key(0), _images(6), jnp.asarray(sets))
    if partners == 'batch':
        own, other = sets, np.roll(sets, 1, axis=0)
    else:
        own, other = sets[:3], sets[3:]
    np.testing.assert_array_equal(out.labels, own)
    np.testing.assert_array_equal(out.mix_labels, other)


def test_fresh_partners_are_the_second_half_of_what_was_decoded():
    images, labels = _images(12), jnp.arange(12)
    fresh = dataclasses.replace(NONE, partners='fresh', cutmix=True)
    out = augment(fresh, jax.random.key(0), images, labels)
    assert out.images.shape == (6, 8, 8, 3)
    np.testing.assert_array_equal(out.labels, np.arange(6))
    np.testing.assert_array_equal(out.mix_labels, np.arange(6, 12))
    first, second = normalize(images[:6]), normalize(images[6:])
    of_first = np.all(out.images == first, axis=-1)
    assert np.all(of_first | np.all(out.images == second, axis=-1))
    np.testing.assert_allclose(of_first.mean((1, 2)), out.ratio, rtol=1e-6)


def test_randaugment_sees_whole_levels_and_changes_images():
    images, labels = _images(32, 16), jnp.arange(32)
    settings = dataclasses.replace(NONE, mixup_alpha=0.2, randaugment_layers=2, randaugment_magnitude=10)
    out = jax.jit(augment, static_argnums=0)(settings, jax.random.key(0), images, labels)
    levels = np.asarray(out.images) * (255 * STD) + 255 * MEAN
    np.testing.assert_allclose(levels, np.rint(levels), atol=1e-3)
    assert levels.min() > -0.01
    assert levels.max() < 255.01
