"""What every device shares and what each has of its own."""

import jax
import jax.numpy as jnp
import numpy as np

from nfnets import parallel
from nfnets.parallel import SAME, SPLIT


def test_a_mean_and_a_total_are_over_all_devices():
    def step(scale, batch):
        x = jnp.sum(batch['x']) * scale
        return parallel.mean(x), parallel.total(x)

    batch = parallel.shard_batch({'x': np.arange(16, dtype=np.float32)})
    assert batch['x'].shape == (8, 2)
    mean, total = parallel.parallelize(step, arguments=(SAME, SPLIT))(jnp.float32(2), batch)
    assert float(total) == 2 * 120
    assert float(mean) == 2 * 120 / 8


def test_counts_of_each_device_begin_at_zero_and_add_up():
    counts = parallel.zeros_on_each((3,), jnp.int32)
    run = parallel.parallelize(lambda x, y: x + y, arguments=(SPLIT, SPLIT), results=SPLIT, donate_argument=0)
    counts = run(counts, np.arange(24, dtype=np.int32).reshape(8, 3))
    np.testing.assert_array_equal(parallel.total_of_all(counts), [84, 92, 100])


def test_each_device_knows_which_it_is():
    def step(scale, batch):
        own = jnp.zeros(8, jnp.int32).at[batch['device'][0]].set(parallel.device_index())
        return parallel.total(scale * own)

    batch = {'device': np.arange(8)[:, None]}
    indices = parallel.parallelize(step, arguments=(SAME, SPLIT))(1, batch)
    np.testing.assert_array_equal(indices, np.arange(8))


def test_a_mean_is_not_taken_of_integers():
    def step(count, batch):
        return parallel.mean({'count': count + 1, 'x': jnp.sum(batch)})

    run = parallel.parallelize(step, arguments=(SAME, SPLIT))
    out = run(jnp.int32(2**24), np.arange(8, dtype=np.float32)[:, None])
    assert (out['count'], out['count'].dtype) == (2**24 + 1, jnp.int32)  # No float32 holds it.
    assert float(out['x']) == 3.5


def test_a_replicated_state_can_be_donated():
    def step(state, batch):
        return jax.tree.map(lambda x: x + parallel.total(jnp.sum(batch)), state)

    run = parallel.parallelize(step, arguments=(SAME, SPLIT), donate_argument=0)
    state = parallel.replicate({'x': np.zeros(3, np.float32)})
    for _ in range(2):
        state = run(state, np.ones((8, 1), np.float32))
    np.testing.assert_array_equal(state['x'], [16, 16, 16])


def test_bytes_of_any_length_are_gathered_as_each_process_gave_them(monkeypatch):
    of_processes = [b'one', b'', b'\0three\0']

    def allgather(own):
        """What the processes would get, of which this is the first."""
        if own.ndim == 0:
            assert own == 3
            return np.array([len(each) for each in of_processes])
        assert own.tobytes() == b'one\0\0\0\0'
        return np.stack([np.frombuffer(each.ljust(len(own), b'\0'), np.uint8) for each in of_processes])

    monkeypatch.setattr(jax, 'process_count', lambda: 3)
    monkeypatch.setattr(parallel.multihost_utils, 'process_allgather', allgather)
    assert parallel.gather_bytes(b'one') == of_processes
