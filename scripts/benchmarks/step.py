"""Times the training step or the forward pass of a variant, for `scripts/benchmark.py step` and `eval`."""

import contextlib
import dataclasses
import os
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
from benchmarks.imagenet_config import complete
from benchmarks.timm_step import Worker
from benchmarks.xla_convolutions import xla_convolutions

from nfnets import build, parallel
from nfnets.configs import imagenet
from nfnets.data.imagenet import NUM_CLASSES
from nfnets.folding.fold import fold
from nfnets.folding.run import as_network
from nfnets.models.cost import network_cost
from nfnets.models.networks import init_variables
from nfnets.models.param_layout import UNSTACKED
from nfnets.planning.memory import memory_of

Timer = Callable[[], float]  # Runs once, returns seconds.
# Side of the matrices whose product gives the device's rate: on an accelerator larger, to fill it.
_MATRIX_ON_CPU, _MATRIX = 4096, 8192
_IN_FLIGHT = 10  # Steps that an accelerator is handed before it is waited for, as in training.


@dataclasses.dataclass(frozen=True)
class Setup:
    """The step that is timed.

    Attributes:
      command: 'step' for the training step, 'eval' for the forward pass in evaluation.
      variant: one of `VARIANTS`.
      batch: images on each device.
      image_size: side of the images, px.
      precision: 'float32' or 'bfloat16'.
      scan: model.scan.
      against: what is timed in turn with it: 'timm', 'xla', 'network' (the network as in training) or None.
      remat: model.remat.
      accumulate: train.accumulate_steps.
      sam: whether the step has the paper's sharpness-aware gradient.
      augment: whether the step has the paper's augmentation.
    """

    command: str
    variant: str
    batch: int
    image_size: int
    precision: str
    scan: bool = False
    against: str | None = None
    remat: bool = False
    accumulate: int = 1
    sam: bool = False
    augment: bool = False


def measure(setup: Setup, rounds: int) -> dict[str, Any]:
    """The JSON object that `scripts/benchmark.py step` and `eval` print.

    Args:
      setup: what is timed.
      rounds: times that each is run, after two that do not count; 0: it is only compiled.
    """
    if setup.against == 'timm':  # Which wants memory of the same GPU.
        os.environ.setdefault('XLA_PYTHON_CLIENT_PREALLOCATE', 'false')
    make = training_step if setup.command == 'step' else forward_pass
    run, figures = make(setup)
    timers = {'ours': run}
    failed: dict[str, str] = {}
    with contextlib.ExitStack() as stack:
        if setup.against == 'xla':
            with xla_convolutions():
                timers['xla'], figures_of_xla = make(setup)
            figures |= {f'{name}_of_xla': value for name, value in figures_of_xla.items()}
        elif setup.against == 'network':
            timers['network'], _ = forward_pass(setup, is_folded=False)
        elif setup.against == 'timm':
            worker = stack.enter_context(Worker(setup, in_flight()))
            timers |= worker.timers
            failed = worker.failed
        rate = product_rate(setup.precision) if rounds else 0.0
        seconds = time_in_turn(timers, rounds)
    timed = speed(setup, seconds['ours'], rate) if rounds else {}
    return {
        **dataclasses.asdict(setup),
        'device': device(),
        'jax': jax.__version__,
        **timed,
        **figures,
        **({'against_figures': compare(seconds)} if timed and len(timers) > 1 else {}),
        **({'failed': failed} if failed else {}),
    }


def make_config(setup: Setup) -> ml_collections.FrozenConfigDict:
    """The paper's config for the variant on all devices; without augmentation unless the setup has it."""
    config = imagenet.get_config(setup.variant)
    config.train.batch_size = setup.batch * jax.device_count()
    config.train.precision = setup.precision
    config.data.train_size = setup.image_size
    config.augment.partners = 'batch'
    config.model.scan, config.model.remat = setup.scan, setup.remat
    config.train.accumulate_steps = setup.accumulate
    config.sam.rho = 0.05 if setup.sam else 0.0
    return complete(config, num_devices=jax.device_count(), augment=setup.augment)


def training_step(setup: Setup) -> tuple[Timer, dict[str, float]]:
    """The compiled training step, and `compiled_figures` of it."""
    config = make_config(setup)
    num_images = jax.device_count() * setup.batch
    shape = (num_images, setup.image_size, setup.image_size, 3)
    rng = np.random.default_rng(0)
    batch = parallel.shard_batch(
        {
            'images': rng.integers(0, 256, shape, np.uint8),
            'labels': rng.integers(0, NUM_CLASSES, num_images, np.int32),
        }
    )
    key = jax.random.key(1)
    start = time.perf_counter()
    step = build.lower_train_step(config).compile()
    figures = compiled_figures(step, time.perf_counter() - start)
    state = None

    def run() -> float:
        nonlocal state
        state = jax.jit(build.new_state, static_argnums=0)(config) if state is None else state
        return seconds_of(update)

    def update() -> Any:
        nonlocal state
        state, metrics = step(state, batch, key)
        return state, metrics

    return run, figures


def forward_pass(setup: Setup, *, is_folded: bool = True) -> tuple[Timer, dict[str, float]]:
    """The compiled forward pass in evaluation, on one device, and `compiled_figures` of it.

    Args:
      setup: what is timed.
      is_folded: whether weights are standardized before, as `nfnets-evaluate` does, and not in each pass.
    """
    network, dtype = build.network(make_config(setup), UNSTACKED), jnp.dtype(setup.precision)
    variables = jax.jit(lambda key: init_variables(network, key))(jax.random.key(0))
    if is_folded:
        graph = fold(network, variables, setup.image_size, from_pixels=False).astype(setup.precision)
        network, variables = as_network(graph), (graph.arrays(), {})
    variables = jax.tree.map(lambda x: jnp.asarray(x, dtype), variables)
    shape = (setup.batch, setup.image_size, setup.image_size, 3)
    images = jnp.asarray(np.random.default_rng(0).standard_normal(shape), dtype)
    forward = jax.jit(lambda variables, images: network.apply(*variables, None, images, False)[0]['logits'])
    start = time.perf_counter()
    compiled = forward.lower(variables, images).compile()
    figures = compiled_figures(compiled, time.perf_counter() - start)

    def run() -> float:
        return seconds_of(lambda: compiled(variables, images))

    return run, figures


def in_flight() -> int:
    """How many times something runs before it is waited for: on a CPU, which computes itself, once."""
    return 1 if jax.default_backend() == 'cpu' else _IN_FLIGHT


def seconds_of(fn: Callable[[], Any]) -> float:
    """Seconds that a computation takes the device, the mean of those in flight."""
    start = time.perf_counter()
    for _ in range(in_flight()):
        result = fn()
    jax.block_until_ready(result)
    return (time.perf_counter() - start) / in_flight()


def compiled_figures(compiled: Any, seconds: float) -> dict[str, float]:
    """Seconds to compile, and the memory that the program takes by XLA's own account."""
    memory = memory_of(compiled)
    return {
        'compile_seconds': round(seconds, 1),
        'temporary_memory_gib': round(memory.temporaries / 2**30, 3),
        'peak_memory_gib': round(memory.peak / 2**30, 3),
    }


def product_rate(precision: str) -> float:
    """Floating-point operations a second of this device in products of large matrices: the best of ten."""
    side = _MATRIX_ON_CPU if jax.default_backend() == 'cpu' else _MATRIX
    # Random ones: a GPU multiplies zeros and ones faster, at less power.
    matrix = jax.random.normal(jax.random.key(0), (side, side), jnp.dtype(precision))
    product = jax.jit(jnp.matmul)
    product(matrix, matrix).block_until_ready()
    return 2 * side**3 / min(seconds_of(lambda: product(matrix, matrix)) for _ in range(10))


def time_in_turn(timers: dict[str, Timer], rounds: int) -> dict[str, np.ndarray]:
    """{name: seconds of each round}; the first two runs of each do not count."""
    for run in timers.values() if rounds else ():
        run(), run()
    seconds: dict[str, list[float]] = {name: [] for name in timers}
    for _ in range(rounds):
        for name, run in timers.items():
            seconds[name].append(run())
    return {name: np.array(values) for name, values in seconds.items()}


def spread(seconds: np.ndarray) -> dict[str, float]:
    """Median, and the range that the middle half lies in, ms."""
    low, median, high = np.percentile(1e3 * seconds, (25, 50, 75))
    return {'median_ms': round(median, 1), 'quarter_ms': round(low, 1), 'three_quarters_ms': round(high, 1)}


def speed(setup: Setup, seconds: np.ndarray, rate: float) -> dict[str, float]:
    """Times, images a second, and the fraction of a device's rate that the network's operations reach.

    Args:
      setup: what was timed.
      seconds: of each round.
      rate: floating-point operations a second, as `product_rate` gives them.
    """
    passes = {'step': 3 + (3 * 0.2 if setup.sam else 0), 'eval': 1}[setup.command]
    work = 2 * passes * setup.batch * network_cost(setup.variant, setup.image_size).multiply_adds
    median = float(np.median(seconds))
    return {
        **spread(seconds),
        'images_per_second': round(setup.batch * jax.device_count() / median, 2),
        'product_rate_gflops': round(rate / 1e9),
        'share_of_product_rate': round(work / median / rate, 3),
    }


def compare(seconds: dict[str, np.ndarray]) -> dict[str, Any]:
    """{name: its times, and ours relative to them within rounds: median, least and largest}."""
    ours, table = seconds['ours'], {}
    for name, theirs in seconds.items():
        if name != 'ours':
            ratio = ours / theirs
            bounds = {'ratio': np.median(ratio), 'least_ratio': ratio.min(), 'largest_ratio': ratio.max()}
            table[name] = spread(theirs) | {key: round(float(value), 3) for key, value in bounds.items()}
    return table


def device() -> str:
    """The kind of device, and how many of them there are."""
    return f'{jax.devices()[0].device_kind}, {jax.device_count()} of them'
