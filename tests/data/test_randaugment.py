"""RandAugment: each operation against the released code's images, the policy against its law."""

import functools

import golden_numbers
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nfnets.data import operations as ops
from nfnets.data import randaugment as ra
from nfnets.data.pixels import pack, unpack

CASES = [name for name in golden_numbers.load('randaugment_syn.npz').files if name != 'image']


def _draws(count, sign=1.0, row=20, column=41):
    full = lambda value, dtype: jnp.full((count,), value, dtype)  # noqa: E731
    return ops.Draws(full(sign, jnp.float32), full(row, jnp.int32), full(column, jnp.int32))


def _of_images(run):
    return lambda images, *others: unpack(run(pack(images), *others))


def _apply(case, images):
    operation, magnitude = case.split('@')
    sign = -1.0 if magnitude.endswith('-') else 1.0
    run = ops.OPERATIONS[operation](int(magnitude.rstrip('+-')))
    return jax.jit(_of_images(run))(images, _draws(len(images), sign))


@functools.cache
def _all(magnitude):
    """All operations, by name, of images and draws, compiled together."""
    return jax.jit(
        lambda images, draws: {
            name: _of_images(make(magnitude))(images, draws) for name, make in ops.OPERATIONS.items()
        }
    )


def test_the_sixteen_operations_are_the_released_ones():
    assert set(ops.OPERATIONS) == {case.split('@')[0] for case in CASES}
    assert len(ops.OPERATIONS) == 16


@pytest.mark.parametrize('platform', ['cpu', 'tpu'])
@pytest.mark.parametrize('case', CASES)
def test_an_operation_gives_the_released_codes_image(case, platform, form_for):
    form_for(platform)
    golden = golden_numbers.load('randaugment_syn.npz')
    (out,) = np.asarray(_apply(case, jnp.asarray(golden['image'])[None]))
    assert out.dtype == np.uint8
    np.testing.assert_array_equal(out, golden[case])


def test_images_of_a_batch_do_not_touch_each_other():
    rng = np.random.default_rng(0)
    images = jnp.asarray(rng.integers(0, 256, (3, 16, 20, 3)), jnp.uint8)
    together = _all(7)(images, _draws(3, row=5, column=9))
    for i in range(3):
        alone = _all(7)(images[i : i + 1], _draws(1, row=5, column=9))
        for name in ops.OPERATIONS:
            np.testing.assert_array_equal(together[name][i], alone[name][0], err_msg=name)


def test_autocontrast_and_equalize_leave_a_flat_image_alone():
    flat = jnp.full((1, 8, 8, 3), 77, jnp.uint8)
    for name in ('AutoContrast', 'Equalize'):
        np.testing.assert_array_equal(jax.jit(_of_images(ops.OPERATIONS[name](5)))(flat, _draws(1)), flat)


@pytest.mark.parametrize('magnitude', [0, 30])
def test_the_ends_of_the_range_work(magnitude):
    images = jnp.asarray(np.random.default_rng(1).integers(0, 256, (2, 24, 24, 3)), jnp.uint8)
    out = _all(magnitude)(images, _draws(2))
    assert {image.shape for image in out.values()} == {images.shape}
    np.testing.assert_array_equal(out['Posterize'], images if magnitude == 30 else 0)


@pytest.mark.parametrize('count', [5, 16, 40])
def test_every_image_draws_every_operation_equally_often(count):
    keys = jax.random.split(jax.random.key(0), 4000)
    share = -(-count // 16)
    operations = np.asarray(jax.vmap(lambda key: ra.deal(key, count))(keys)) // share
    for image in (0, count - 1):
        frequency = np.bincount(operations[:, image], minlength=16) / 4000
        # Five standard deviations of a sixteenth.
        np.testing.assert_allclose(frequency, 1 / 16, atol=5 * np.sqrt(15 / 256 / 4000))
    assert max(np.bincount(row, minlength=16).max() for row in operations[:50]) <= share


def test_a_layer_runs_on_each_image_the_operation_of_its_slot():
    rng = np.random.default_rng(2)
    images = jnp.asarray(rng.integers(0, 256, (20, 16, 16, 3)), jnp.uint8)
    slots = ra.deal(jax.random.key(3), 20)
    draws = ra.sample_draws(jax.random.key(4), images.shape[:3])
    out = unpack(jax.jit(ra.apply_layer, static_argnums=3)(pack(images), slots, draws, 6))
    by_name, names = _all(6)(images, draws), list(ops.OPERATIONS)  # Each image by every operation.
    for i in range(20):
        np.testing.assert_array_equal(out[i], by_name[names[int(slots[i]) // 2]][i])


def test_layers_follow_each_other_with_draws_of_their_own():
    images = jnp.asarray(np.random.default_rng(5).integers(0, 256, (16, 16, 16, 3)), jnp.uint8)
    run = jax.jit(ra.randaugment, static_argnames=('layers', 'magnitude'))
    apply_layer = jax.jit(ra.apply_layer, static_argnums=3)
    key = jax.random.key(6)
    first_key, second_key = jax.random.split(key, 2)
    step = pack(images)
    for layer_key in (first_key, second_key):
        slot_key, draw_key = jax.random.split(layer_key)
        draws = ra.sample_draws(draw_key, step.shape)
        step = apply_layer(step, ra.deal(slot_key, 16), draws, 5)
    np.testing.assert_array_equal(run(key, pack(images), layers=2, magnitude=5), step)
    slots = [ra.deal(jax.random.split(k)[0], 16) for k in (first_key, second_key)]
    assert np.any(slots[0] != slots[1])


def test_draws_have_both_signs_and_centers_all_over_the_image():
    draws = ra.sample_draws(jax.random.key(0), (4000, 10, 20))
    assert abs(float(jnp.mean(draws.sign))) < 0.08
    assert set(np.unique(draws.sign)) == {-1.0, 1.0}
    assert set(np.unique(draws.row)) == set(range(10))
    assert set(np.unique(draws.column)) == set(range(20))
