"""What every device shares and what each has of its own."""

import jax
import jax.numpy as jnp
import numpy as np

from nfnets import parallel


def test_a_mean_and_a_total_are_over_all_devices():
    def step(scale, batch):
        x = jnp.sum(batch['x']) * scale
        return parallel.mean(x), parallel.total(x)

    batch = parallel.shard_batch({'x': np.arange(16, dtype=np.float32)})
    assert batch['x'].shape == (8, 2)
    mean, total = parallel.parallelize(step, batch_argument=1)(jnp.float32(2), batch)
    assert float(total) == 2 * 120
    assert float(mean) == 2 * 120 / 8


def test_each_device_has_a_key_of_its_own():
    def step(key, batch):
        bits = jax.random.bits(parallel.device_key(key), (4,))
        own = jnp.zeros((8, 4), jnp.uint32).at[batch['device'][0]].set(bits)
        return parallel.total(own)

    batch = {'device': np.arange(8)[:, None]}
    bits = np.asarray(parallel.parallelize(step, batch_argument=1)(jax.random.key(0), batch))
    assert len({tuple(row) for row in bits}) == 8


def test_a_replicated_state_can_be_donated():
    def step(state, batch):
        return jax.tree.map(lambda x: x + parallel.total(jnp.sum(batch)), state)

    run = parallel.parallelize(step, batch_argument=1, donate_argument=0)
    state = parallel.replicate({'x': np.zeros(3, np.float32)})
    for _ in range(2):
        state = run(state, np.ones((8, 1), np.float32))
    np.testing.assert_array_equal(state['x'], [16, 16, 16])
