"""AGC against NumPy in float64, the released code's numbers and optax."""

import golden_numbers
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from nfnets import adaptive_grad_clip
from nfnets.optim.agc import unitwise_norm

CASES = sorted({key.rsplit('/', 1)[0] for key in golden_numbers.load('agc.npz').files})


def _clip(grad, param, clipping=0.01, eps=1e-3, compile=jax.jit):
    transform = adaptive_grad_clip(clipping, eps)
    updates, state = compile(transform.update)({'x': grad}, transform.init({'x': param}), {'x': param})
    return updates['x'], float(state.clipped_fraction)


def _as_written(fn):
    """Not compiled as a whole: XLA may leave out that something is rounded to bfloat16 in between."""
    return fn


def _units(x):
    """[units, fan-in] view of a parameter, by the paper's rule, written with loops."""
    squeezed = np.squeeze(x)
    if squeezed.ndim <= 1:
        return [np.s_[...]]
    if x.ndim == 2:
        return [np.s_[:, o] for o in range(x.shape[1])]
    if x.ndim == 3:
        return [np.s_[:, i, o] for i in range(x.shape[1]) for o in range(x.shape[2])]
    return [np.s_[:, :, :, o] for o in range(x.shape[3])]


def _oracle(grad, param, clipping, eps=1e-3):
    out, clipped = np.array(grad, np.float64), 0
    units = _units(param)
    for unit in units:
        limit = clipping * max(np.sqrt(np.sum(np.float64(param[unit]) ** 2)), eps)
        norm = np.sqrt(np.sum(np.float64(grad[unit]) ** 2))
        if norm > limit:
            out[unit] = grad[unit] * (limit / norm)
            clipped += 1
    return out, clipped / len(units)


@pytest.mark.parametrize(
    'shape', [(), (7,), (1, 7), (7, 1), (5, 6), (2, 5, 6), (3, 3, 4, 6), (1, 1, 1, 6), (1, 1, 4, 6)]
)
def test_every_rank_is_clipped_as_numpy_does(shape):
    rng = np.random.default_rng(len(shape))
    param = rng.normal(size=shape).astype(np.float32)
    # Sizes that put some units above and some below the limit.
    grad = (rng.normal(size=shape) * 10.0 ** rng.uniform(-4, 0, shape[-1:])).astype(np.float32)
    out, fraction = _clip(jnp.asarray(grad), jnp.asarray(param))
    expected, expected_fraction = _oracle(grad, param, 0.01)
    np.testing.assert_allclose(out, expected, rtol=1e-5)
    assert fraction == pytest.approx(expected_fraction)


@pytest.mark.parametrize('shape', [(), (7,), (1, 1, 7), (1, 1, 1, 6), (5, 6), (3, 3, 4, 6)])
def test_every_one_of_stacked_parameters_is_clipped_by_itself(shape):
    rng = np.random.default_rng(len(shape))
    params = rng.normal(size=(3, *shape)).astype(np.float32)
    sizes = np.float32([1e-3, 3e-2, 1]).reshape(3, *(1 for _ in shape))
    grads = sizes * rng.normal(size=(3, *shape)).astype(np.float32)
    transform = adaptive_grad_clip(0.01, is_stacked=lambda name: name == 'x')
    updates, state = jax.jit(transform.update)({'x': grads}, transform.init({'x': params}), {'x': params})
    expected, fractions = zip(
        *(_oracle(*pair, 0.01) for pair in zip(grads, params, strict=True)), strict=True
    )
    np.testing.assert_allclose(updates['x'], expected, rtol=1e-5)
    assert float(state.clipped_fraction) == pytest.approx(np.mean(fractions))


@pytest.mark.parametrize('case', CASES)
def test_the_released_codes_numbers_come_out(case):
    golden = golden_numbers.load('agc.npz')
    grad, param = jnp.asarray(golden[f'{case}/grad']), jnp.asarray(golden[f'{case}/param'])
    out, _ = _clip(grad, param, float(golden[f'{case}/clip']))
    np.testing.assert_allclose(out, golden[f'{case}/out_optax'], rtol=1e-6)
    for x, norm in ((param, 'norm_param'), (grad, 'norm_grad')):
        expected = golden[f'{case}/{norm}']
        np.testing.assert_allclose(np.ravel(jax.jit(unitwise_norm)(x)), expected.ravel(), rtol=1e-6)


def test_a_tree_is_clipped_as_by_optax():
    rng = np.random.default_rng(0)
    shapes = {'w': (3, 3, 8, 16), 'v': (8, 16), 'b': (16,), 's': ()}
    params = {name: np.float32(rng.normal(size=shape)) for name, shape in shapes.items()}
    grads = jax.tree.map(lambda p: 0.02 * np.cos(7 * p), params)
    out, expected = (
        jax.jit(clip.update)(grads, clip.init(params), params)[0]
        for clip in (adaptive_grad_clip(0.01), optax.adaptive_grad_clip(0.01))
    )
    for name in shapes:
        np.testing.assert_allclose(out[name], expected[name], rtol=1e-6, err_msg=name)


def test_zero_gradients_and_zero_parameters_are_safe():
    zero, one = jnp.zeros((3, 4)), jnp.ones((3, 4))
    out, fraction = _clip(zero, one)
    np.testing.assert_array_equal(out, zero)
    assert fraction == 0
    out, fraction = _clip(one, zero)
    np.testing.assert_allclose(np.linalg.norm(out, axis=0), 0.01 * 1e-3, rtol=1e-5)
    assert fraction == 1
    np.testing.assert_array_equal(_clip(zero, zero)[0], zero)


def test_a_gradient_just_at_the_limit_is_not_clipped():
    grad, param = jnp.array([1.0, 0, 0, 0]), jnp.ones(4)  # Norms 1 and 2, exact in float32.
    out, fraction = _clip(grad, param, clipping=0.5)
    np.testing.assert_array_equal(out, grad)
    assert fraction == 0


def test_bfloat16_gradients_are_measured_in_float32():
    # In bfloat16 the sum of 4096 squares would stop growing at 256.
    grad, param = jnp.ones((4096, 2), jnp.bfloat16), jnp.ones((4096, 2))
    out, _ = _clip(grad, param, clipping=0.5, compile=_as_written)
    assert out.dtype == jnp.bfloat16
    np.testing.assert_array_equal(out.astype(jnp.float32), 0.5)
    assert unitwise_norm(grad).dtype == jnp.float32


def test_bfloat16_gradients_are_scaled_in_float32_and_rounded_once():
    three = jnp.full(16, 3.0)
    out, _ = _clip(three.astype(jnp.bfloat16), three, clipping=0.3, compile=_as_written)
    # A factor rounded to bfloat16 first, 0.30078, would give the next value above.
    np.testing.assert_array_equal(out, jnp.full(16, 0.9, jnp.bfloat16))


def test_the_fraction_counts_units_under_a_mask():
    params = {'a': jnp.ones((4, 8)), 'b': jnp.ones(3), 'left_out': jnp.ones((4, 100))}
    grads = {
        'a': jnp.zeros((4, 8)).at[:, :2].set(1.0),
        'b': jnp.full(3, 1e-6),
        'left_out': jnp.ones((4, 100)),
    }
    transform = optax.masked(adaptive_grad_clip(0.01), {'a': True, 'b': True, 'left_out': False})
    updates, state = jax.jit(transform.update)(grads, transform.init(params), params)
    assert float(optax.tree_utils.tree_get(state, 'clipped_fraction')) == pytest.approx(2 / 9)
    np.testing.assert_array_equal(updates['left_out'], grads['left_out'])


def test_groups_are_counted_separately_and_change_no_update():
    rng = np.random.default_rng(0)
    # The groups' parameters stand mixed in the tree's order, and of one group there is nothing to clip.
    groups = {'a': 'stem', 'b': 'head', 'c': 'stem', 'd': 'body', 'e': 'body', 'f': 'none'}
    shapes = {'a': (3, 3, 4, 6), 'b': (5, 7), 'c': (9,), 'd': (1, 1, 4, 6), 'e': (), 'f': (4, 100)}
    params = {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    scale = {name: 10.0 ** rng.uniform(-4, 0, shape[-1:]) for name, shape in shapes.items()}
    grads = {name: np.float32(rng.normal(size=shapes[name]) * scale[name]) for name in shapes}
    mask = {name: name != 'f' for name in groups}

    grouped = optax.masked(adaptive_grad_clip(0.01, group_of=groups.__getitem__), mask)
    start = grouped.init(params)
    updates, state = jax.jit(grouped.update)(grads, start, params)
    assert jax.tree.structure(state) == jax.tree.structure(start)

    clipped, units = dict.fromkeys(groups.values(), 0), dict.fromkeys(groups.values(), 0)
    for name, group in groups.items():
        expected, fraction = _oracle(grads[name], params[name], 0.01)
        count = len(_units(params[name]))
        clipped[group] += round(fraction * count)
        units[group] += count
        np.testing.assert_allclose(updates[name], grads[name] if name == 'f' else expected, rtol=1e-5)
    state = optax.tree_utils.tree_get(state, 'clipped_by_group')
    assert state.keys() == {'stem', 'body', 'head'}
    for group, share in state.items():
        assert float(share) == pytest.approx(clipped[group] / units[group]), group
    assert 0 < clipped['stem'] < units['stem']
    assert 0 < clipped['head'] < units['head']


def test_more_than_four_axes_are_refused():
    with pytest.raises(ValueError, match='at most 4 axes'):
        unitwise_norm(jnp.ones((2, 2, 2, 2, 2)))


def test_parameters_are_asked_for():
    transform = adaptive_grad_clip(0.01)
    with pytest.raises(ValueError, match='params'):
        transform.update({'x': jnp.ones(2)}, transform.init({'x': jnp.ones(2)}))
