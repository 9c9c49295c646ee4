"""Momentum and EMA sharded over devices: what each has, and that the whole is what it was."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

from nfnets import parallel
from nfnets.optim.sharded import sharded
from nfnets.parallel import SAME, SPLIT
from nfnets.train_state import TrainState, init_train_state, sharded_placement

RNG = np.random.default_rng(0)
# Rows for eight devices: 12, 64, fewer than devices, none; and stacked blocks of a convolution.
SHAPES = {
    'conv': {'w': (3, 3, 12, 4), 'gain': (4,)},
    'linear': {'w': (64, 10), 'b': (10,)},
    'narrow': {'w': (7, 16)},
    'block': {'w': (2, 1, 1, 8, 16), 'skip_gain': ()},
}
PARAMS = jax.tree.map(
    lambda shape: np.float32(RNG.normal(size=shape)), SHAPES, is_leaf=lambda x: isinstance(x, tuple)
)


def _state():
    """A state of which no two arrays are alike."""
    state = init_train_state(jax.tree.map(jnp.asarray, PARAMS), optax.chain(optax.trace(0.9)))
    return jax.tree.map(lambda x: np.asarray(x + RNG.normal(size=x.shape), x.dtype), state)


def test_gathered_a_state_is_what_was_placed_bit_by_bit():
    state, placement = _state(), sharded_placement()
    there = placement.place(state)
    assert there.params['conv']['w'].shape == (3, 3, 12, 4)
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(placement.gather(there)), state)


def test_each_device_keeps_its_rows_of_momentum_and_ema():
    state = _state()
    there = sharded_placement().place(state)
    (momentum,) = there.opt_state
    for parts, expected in ((there.ema_params, state.ema_params), (momentum.trace, state.opt_state[0].trace)):
        assert parts['linear']['w'].shape == (8, 8, 10)
        assert parts['conv']['w'].shape == (8, 3, 3, 2, 4)  # 12 rows, and 4 of zeros.
        assert parts['block']['w'].shape == (8, 2, 1, 1, 1, 16)
        assert len(parts['linear']['w'].addressable_shards) == 8
        np.testing.assert_array_equal(parts['linear']['w'][3], expected['linear']['w'][24:32])
        np.testing.assert_array_equal(parts['conv']['w'][5], expected['conv']['w'][:, :, 10:])
        np.testing.assert_array_equal(parts['conv']['w'][6], np.zeros((3, 3, 2, 4)))
        np.testing.assert_array_equal(parts['block']['w'][5], expected['block']['w'][..., 5:6, :])
        for small in (('narrow', 'w'), ('linear', 'b'), ('block', 'skip_gain')):
            module, name = small
            for device in range(8):
                np.testing.assert_array_equal(parts[module][name][device], expected[module][name])


def test_updates_and_momentum_are_those_of_the_formula():
    transform, placement = sharded(optax.trace(0.9, nesterov=True)), sharded_placement()
    state = TrainState(np.int32(0), PARAMS, {}, PARAMS, {}, transform.init(PARAMS))
    state = placement.place(state)
    step = parallel.parallelize(
        lambda grads, opt_state: transform.update(grads, opt_state),
        arguments=(SAME, SPLIT),
        results=(SAME, SPLIT),
    )
    momentum = jax.tree.map(np.zeros_like, PARAMS)
    for _ in range(2):
        grads = jax.tree.map(lambda x: np.float32(RNG.normal(size=x.shape)), PARAMS)
        updates, opt_state = step(grads, state.opt_state)
        state = state._replace(opt_state=opt_state)
        momentum = jax.tree.map(lambda m, g: 0.9 * np.float64(m) + g, momentum, grads)
        expected = jax.tree.map(lambda m, g: 0.9 * m + g, momentum, grads)
        jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=2e-6, atol=1e-6), updates, expected)
    gathered = placement.gather(state).opt_state.trace
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=2e-6, atol=1e-6), gathered, momentum)
