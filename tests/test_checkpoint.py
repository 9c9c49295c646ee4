"""Checkpoints give back what was saved, bit for bit."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

from nfnets.checkpoint import Checkpoints
from nfnets.optim.optimizer import make_optimizer
from nfnets.train_state import init_train_state


def _optimizer():
    return make_optimizer(0.1, momentum=0.9, weight_decay=1e-4, agc_clipping=0.01, agc_eps=1e-3)


def _state(seed, updates):
    rng = np.random.default_rng(seed)
    params = {
        'Net/~/conv': {
            'w': jnp.asarray(rng.normal(size=(3, 3, 2, 4)), jnp.float32),
            'gain': jnp.ones(4),
            'skip_gain': jnp.zeros(()),
        },
        'Net/~/linear': {'w': jnp.asarray(rng.normal(size=(4, 5)), jnp.float32), 'b': jnp.zeros(5)},
    }
    optimizer = _optimizer()
    state = init_train_state(params, optimizer)
    for _ in range(updates):
        grads = jax.tree.map(lambda p: jnp.asarray(rng.normal(size=p.shape), jnp.float32), params)
        updates_, opt_state = optimizer.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates_)
        state = state._replace(step=state.step + 1, params=params, opt_state=opt_state)
    return state


def test_a_state_comes_back_bit_equal_with_its_position(tmp_path):
    saved = _state(seed=1, updates=3)
    checkpoints = Checkpoints(tmp_path / 'checkpoints', keep=2)
    assert checkpoints.latest_step() is None
    checkpoints.save(saved, position=12345)
    checkpoints.close()

    restored, position = Checkpoints(tmp_path / 'checkpoints', keep=2).restore(_state(2, 0))
    assert position == 12345
    assert jax.tree.structure(restored) == jax.tree.structure(saved)
    for old, new in zip(jax.tree.leaves(saved), jax.tree.leaves(restored), strict=True):
        assert new.dtype == old.dtype
        np.testing.assert_array_equal(new, old)


def test_only_the_last_few_are_kept(tmp_path):
    checkpoints = Checkpoints(tmp_path / 'checkpoints', keep=2)
    for updates in (1, 2, 3, 4):
        checkpoints.save(_state(0, updates), position=updates)
    checkpoints.close()
    names = {p.name for p in (tmp_path / 'checkpoints').iterdir() if p.is_dir()}
    assert names == {'3', '4'}


def test_a_saved_copy_does_not_follow_the_state(tmp_path):
    checkpoints = Checkpoints(tmp_path / 'checkpoints', keep=1)
    state = _state(0, 1)
    before = np.array(state.params['Net/~/linear']['w'])
    checkpoints.save(state, position=0)
    jax.tree.map(lambda x: x.delete(), state.params)  # As donation to the next step does.
    checkpoints.close()
    restored, _ = Checkpoints(tmp_path / 'checkpoints', keep=1).restore(_state(2, 0))
    np.testing.assert_array_equal(restored.params['Net/~/linear']['w'], before)


def test_an_unfinished_checkpoint_does_not_count(tmp_path):
    checkpoints = Checkpoints(tmp_path / 'checkpoints', keep=3)
    checkpoints.save(_state(0, 1), position=1)
    checkpoints.close()
    unfinished = tmp_path / 'checkpoints' / '2.orbax-checkpoint-tmp'
    unfinished.mkdir()
    (unfinished / 'state').write_text('')
    assert Checkpoints(tmp_path / 'checkpoints', keep=3).latest_step() == 1
