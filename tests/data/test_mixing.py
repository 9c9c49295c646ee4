"""MixUp and CutMix against the released code's numbers and the law of their draws."""

import functools

import golden_numbers
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nfnets.data import mixing


def _mix(count, **settings):
    rng = np.random.default_rng(count)
    images, partners = rng.uniform(0, 255, (2, count, 6, 8, 3)).astype(np.float32)
    labels = jnp.arange(count)
    mix = jax.jit(functools.partial(mixing.mix, **settings))
    out = mix(jax.random.key(count), images, labels, partners, labels + 100)
    return images, partners, jax.device_get(out)


def test_mixup_and_cutmix_are_the_released_ones():
    golden = golden_numbers.load('mixing.npz')
    images, mask = golden['in/images'], golden['in/mask'][..., 0]
    ratio = jnp.asarray(golden['in/mixup_ratio'])
    mixed = mixing.mixup_images(images[:4], images[4:], ratio[:4])
    np.testing.assert_allclose(mixed, golden['my_mixup/images'], rtol=1e-6, atol=1e-4)
    cut = mixing.cutmix_images(images[:4], images[4:], jnp.asarray(mask[:4]))
    np.testing.assert_array_equal(cut, golden['my_cutmix/images'])
    np.testing.assert_allclose(mask.mean((1, 2)), golden['in/cutmix_ratio'], rtol=1e-6)


def test_boxes_are_the_released_ones():
    golden = golden_numbers.load('mixing.npz')
    columns = [str(name) for name in golden['cutmix_padding/columns']]
    assert columns == ['h', 'w', 'r_x', 'r_y', 'image1_proportion', 'y1', 'y2', 'x1', 'x2', 'mask_mean']
    for h, w, r_x, r_y, p, y1, y2, x1, x2, ratio in golden['cutmix_padding/table']:
        rows, places, outside = jnp.array([int(r_y)]), jnp.array([int(r_x)]), jnp.array([p])
        mask = np.asarray(mixing.cutmix_mask(rows, places, outside, int(h), int(w)))[0]
        expected = np.zeros((int(h), int(w)))
        expected[int(y1) : int(y2), int(x1) : int(x2)] = 1
        np.testing.assert_array_equal(mask, expected)
        assert mask.mean() == pytest.approx(ratio, rel=1e-6)


@pytest.mark.parametrize('count', [2, 7])
def test_the_first_half_is_mixup_and_the_second_cutmix(count):
    images, partners, out = _mix(count, mixup_alpha=0.2, cutmix=True)
    half = count // 2
    r = out.ratio[:half, None, None, None]
    np.testing.assert_allclose(
        out.images[:half], r * images[:half] + (1 - r) * partners[:half], rtol=1e-5, atol=1e-3
    )
    kept = np.all(out.images[half:] == images[half:], axis=-1)
    taken = np.all(out.images[half:] == partners[half:], axis=-1)
    assert np.all(kept ^ taken)
    np.testing.assert_allclose(out.ratio[half:], kept.mean((1, 2)), rtol=1e-6)
    np.testing.assert_array_equal(out.labels, np.arange(count))
    np.testing.assert_array_equal(out.mix_labels, np.arange(count) + 100)


def test_one_alone_takes_the_whole_batch():
    images, partners, out = _mix(6, mixup_alpha=0.2, cutmix=False)
    r = out.ratio[:, None, None, None]
    np.testing.assert_allclose(out.images, r * images + (1 - r) * partners, rtol=1e-5, atol=1e-3)
    images, partners, out = _mix(6, mixup_alpha=0.0, cutmix=True)
    assert np.all((out.images == images) | (out.images == partners))


def test_neither_leaves_images_and_labels_as_they_are():
    images, _, out = _mix(3, mixup_alpha=0.0, cutmix=False)
    np.testing.assert_array_equal(out.images, images)
    np.testing.assert_array_equal(out.ratio, 1)
    np.testing.assert_array_equal(out.mix_labels, out.labels)


def test_ratios_of_mixup_follow_the_beta_distribution():
    images = jnp.zeros((20_000, 1, 1, 1))
    labels = jnp.zeros(20_000, jnp.int32)
    key = jax.random.key(1)
    mix = jax.jit(functools.partial(mixing.mix, mixup_alpha=0.2, cutmix=False))
    ratio = mix(key, images, labels, images, labels).ratio
    assert float(jnp.mean(ratio)) == pytest.approx(0.5, abs=0.02)
    assert float(jnp.var(ratio)) == pytest.approx(1 / (4 * (2 * 0.2 + 1)), rel=0.03)


def test_areas_of_cutmix_follow_the_released_law():
    height, width, count = 24, 32, 20_000
    ratio = np.asarray(mixing.sample_cutmix_mask(jax.random.key(2), count, height, width)).mean((1, 2))
    rng = np.random.default_rng(0)
    expected = []
    for _ in range(count):
        r_x, r_y, side = rng.integers(width), rng.integers(height), np.sqrt(1 - rng.uniform())
        half_w, half_h = int(side * width) // 2, int(side * height) // 2
        x = min(r_x + half_w, width) - max(r_x - half_w, 0)
        y = min(r_y + half_h, height) - max(r_y - half_h, 0)
        expected.append(x * y / (height * width))
    for share in (10, 25, 50, 75, 90):
        assert np.percentile(ratio, share) == pytest.approx(np.percentile(expected, share), abs=0.02)
