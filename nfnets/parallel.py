"""Data parallelism over all devices of all hosts: the only file that names the axis of `jax.pmap`."""

import functools
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

_AXIS = 'devices'
# Where an argument or a result, or a part of one, lies.
SAME = None  # The same on all devices, given once.
SPLIT = 0  # Leaves [D, ...] for the D devices of this process, which see [...].

Tree = TypeVar('Tree')


def parallelize(
    fn: Callable[..., Any],
    *,
    arguments: tuple[Any, ...],
    results: Any = SAME,
    donate_argument: int | None = None,
    devices: Sequence[jax.Device] | None = None,
) -> Callable[..., Any]:
    """Compiles a function of positional arguments to run on every device.

    Args:
      fn: of one device; reduces with `mean` or `total`, or gathers, what must be the same on all.
      arguments: for each, `SAME` or `SPLIT`, or a tree of these that is a prefix of it.
      results: alike.
      donate_argument: index of an argument whose memory the result may take.
      devices: to run on, or only to compile for; None: all there are.
    """
    donate = () if donate_argument is None else (donate_argument,)
    return jax.pmap(fn, _AXIS, in_axes=arguments, out_axes=results, donate_argnums=donate, devices=devices)


def mean(tree: Tree) -> Tree:
    """Mean over all devices, but of integers, which must be the same on all; inside a parallel function."""
    devices = jax.lax.axis_size(_AXIS)
    if devices == 1:
        return tree  # XLA's CPU backend would copy it.
    # Divided before the sum, in what computes it: after it, that is a pass of its own on TPU.
    parts = jax.tree.map(lambda x: x if jnp.issubdtype(x.dtype, jnp.integer) else x / devices, tree)
    with jax.named_scope('all-reduce'):
        means = jax.lax.psum(parts, _AXIS)
    return jax.tree.map(lambda x, mean: x if jnp.issubdtype(x.dtype, jnp.integer) else mean, tree, means)


def total(tree: Tree) -> Tree:
    """Sum over all devices; inside a parallel function."""
    return jax.lax.psum(tree, _AXIS)


def gather(tree: Tree) -> Tree:
    """The parts of all devices, [N / D, ...] -> [D, N / D, ...]; inside a parallel function."""
    return jax.lax.all_gather(tree, _AXIS)


def own_rows(x: jax.Array) -> jax.Array:
    """The rows of an array that belong to this device; inside a parallel function.

    Args:
      x: [..., R, O].

    Returns:
      [..., ceil(R / D), O] of D devices, in their order, the last ones filled up with zeros; x itself where
      there are fewer rows than devices.
    """
    rows, per_device = rows_of(x.shape, devices := jax.lax.axis_size(_AXIS))
    if rows is None:
        return x
    missing = per_device * devices - rows
    padded = jnp.pad(x, [(0, 0)] * (x.ndim - 2) + [(0, missing), (0, 0)])
    return jax.lax.dynamic_slice_in_dim(padded, device_index() * per_device, per_device, axis=-2)


def all_rows(part: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """The array of a shape whose `own_rows` each device gives; inside a parallel function."""
    rows, _ = rows_of(shape, jax.lax.axis_size(_AXIS))
    if rows is None:
        return part
    whole = jax.lax.all_gather(part, _AXIS, axis=part.ndim - 2, tiled=True)
    return jax.lax.slice_in_dim(whole, 0, rows, axis=-2)


def rows_of(shape: tuple[int, ...], devices: int) -> tuple[int | None, int]:
    """How many rows an array is split into, None if it is not, and how many of them a device has."""
    if len(shape) < 2 or shape[-2] < devices:
        return None, 0
    return shape[-2], -(-shape[-2] // devices)


def device_index() -> jax.Array:
    """The number of this device among all, int32 []; inside a parallel function."""
    return jax.lax.axis_index(_AXIS)


def num_local(devices: Sequence[jax.Device] | None = None) -> int:
    """How many of the devices, or of all, are this process's."""
    own = jax.process_index()
    return sum(device.process_index == own for device in (jax.devices() if devices is None else devices))


def shard_batch(batch: dict[str, np.ndarray]) -> dict[str, jax.Array]:
    """[N, ...] -> [D, N / D, ...] for the D devices of this process, each with its part."""
    devices = jax.local_device_count()
    parts = {name: x.reshape(devices, -1, *x.shape[1:]) for name, x in batch.items()}
    sharded = jax.device_put(parts, _on_local_devices(_AXIS))
    if jax.default_backend() == 'cpu':
        # A step is run in the main thread, which `nfnets/host.py` wants, only if it need not wait for this.
        jax.block_until_ready(sharded)
    return sharded


def zeros_on_each(shape: tuple[int, ...], dtype: Any) -> jax.Array:
    """An array of zeros on every device of this process: [D, *shape] for D devices."""
    return _zeros((jax.local_device_count(), *shape), dtype)()


@functools.cache
def _zeros(shape: tuple[int, ...], dtype: Any) -> Callable[[], jax.Array]:
    return jax.jit(lambda: jnp.zeros(shape, dtype), out_shardings=_on_local_devices(_AXIS))


def total_of_all(x: jax.Array) -> np.ndarray:
    """The sum over all devices of all processes, each with its part: [D, ...] -> [...] in every process."""
    return jax.device_get(_total_of_all()(x))


@functools.cache
def _total_of_all() -> Callable[[jax.Array], jax.Array]:
    return parallelize(total, arguments=(SPLIT,))


def replicate(tree: Tree) -> Tree:
    """Puts a tree of arrays on every device of this process.

    In a multi-host run, `pmap` with donation accepts only what already lies on all of these devices.
    """
    return jax.device_put(tree, _on_local_devices())


def _on_local_devices(*axes: str) -> NamedSharding:
    return NamedSharding(Mesh(np.asarray(jax.local_devices()), (_AXIS,)), PartitionSpec(*axes))


def gather_bytes(own: bytes) -> list[bytes]:
    """What each process has of its own, in their order; every process must call it."""
    if jax.process_count() == 1:
        return [own]
    lengths = np.ravel(multihost_utils.process_allgather(np.asarray(len(own))))
    padded = np.zeros(max(1, lengths.max()), np.uint8)
    padded[: len(own)] = np.frombuffer(own, np.uint8)
    rows = multihost_utils.process_allgather(padded).reshape(len(lengths), -1)
    return [row[:length].tobytes() for row, length in zip(rows, lengths.tolist(), strict=True)]


def sum_over_processes(number: int) -> int:
    """Sum of a number that each process has of its own; every process must call it."""
    if jax.process_count() == 1:
        return number
    return int(np.sum(multihost_utils.process_allgather(np.asarray(number))))
