"""Times training step, forward pass, input or checkpoints of a variant on this machine; prints a JSON object.

    python scripts/benchmark.py step --variant F0 --batch 8 --image-size 192
    python scripts/benchmark.py step --against timm        # in turn with PyTorch; needs torch and timm
    python scripts/benchmark.py step --against xla         # in turn with XLA's own convolutions
    python scripts/benchmark.py eval --variant F0 --precision bfloat16
    python scripts/benchmark.py input --variant F0 --against pil    # JPEGs of its own
    python scripts/benchmark.py input --variant F0 --source tfds --dir DATA
    python scripts/benchmark.py checkpoint --variant F0 --batch 32

A step is the whole of it: forward, back, AGC, momentum, the parameters' average and metrics, on images that
lie on the device. timm's is its model in training, SGD and its AGC, as PyTorch runs it eagerly, with channels
last, and compiled, each where it works; it has no average. Where two are compared, each round runs every one
once, and ratios are taken within rounds.

Input is what the host does for each image trained on, with partners to mix with from the batch and with fresh
ones, in CPU time of all threads; its stages, on one thread, for each image read; and what mixing and
RandAugment then take the device, beside the step. Against pil: processes with Pillow, as many as cores.

A checkpoint costs the thread that trains a copy of the state, and a rest, which is also given as a share of
the step; the writing goes on beside the next steps.
"""

import argparse
import contextlib
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # Runs from a clone, not installed.

from benchmark_timm import Worker

from configs import imagenet
from nfnets import build, cli, host, parallel
from nfnets import config as config_lib
from nfnets.cost import network_cost
from nfnets.data.source import KINDS
from nfnets.memory import memory_of
from nfnets.models.convolution import only_xla
from nfnets.models.networks import init_variables
from nfnets.models.stacks import stack
from nfnets.variants import VARIANTS

Timer = Callable[[], float]  # Runs once, returns seconds.
_MATRIX = 4096  # Side of the matrices whose product gives the device's rate.


def settings(arguments: argparse.Namespace) -> Any:
    """The paper's config for the variant, for one device; without augmentation unless that is asked for."""
    config = imagenet.get_config(arguments.variant)
    config.train.batch_size = arguments.batch * jax.device_count()
    config.train.precision = arguments.precision
    config.data.train_size = arguments.image_size
    config.augment.partners = 'batch'
    config.model.scan, config.model.remat = arguments.scan, arguments.remat
    config.train.accumulate_steps = arguments.accumulate
    config.sam.rho = 0.05 if arguments.sam else 0.0
    if not arguments.augment:
        config.augment.mixup_alpha = 0.0
        config.augment.cutmix = False
        config.augment.randaugment_layers = 0
    config_lib.check(config)
    # The size of ImageNet: steps and schedule follow from it, the time of a step does not.
    return config_lib.complete(
        config, num_examples=1_281_167, num_classes=1000, num_devices=jax.device_count()
    )


def our_step(arguments: argparse.Namespace) -> tuple[Timer, dict[str, float]]:
    """The compiled training step, and what compiling it told."""
    config = settings(arguments)

    num_images = jax.device_count() * arguments.batch
    shape = (num_images, arguments.image_size, arguments.image_size, 3)
    rng = np.random.default_rng(0)
    batch = parallel.shard_batch(
        {
            'images': rng.integers(0, 256, shape, np.uint8),
            'labels': rng.integers(0, 1000, num_images, np.int32),
        }
    )
    key = jax.random.key(1)
    start = time.perf_counter()
    step = build.lower_train_step(config).compile()
    told = compiled_figures(step, time.perf_counter() - start)

    state = None

    def run() -> float:
        nonlocal state
        state = jax.jit(build.new_state, static_argnums=0)(config) if state is None else state
        start = time.perf_counter()
        state, metrics = step(state, batch, key)
        jax.block_until_ready((state, metrics))
        return time.perf_counter() - start

    return run, told


def our_eval(arguments: argparse.Namespace) -> tuple[Timer, dict[str, float]]:
    """The compiled forward pass in evaluation, on one device."""
    config = settings(arguments)
    network, dtype = build.network(config), jnp.dtype(arguments.precision)
    params, network_state = jax.jit(lambda key: init_variables(network, key))(jax.random.key(0))
    params = stack(jax.tree.map(lambda p: p.astype(dtype), params), build.stacks(config))
    shape = (arguments.batch, arguments.image_size, arguments.image_size, 3)
    images = jnp.asarray(np.random.default_rng(0).standard_normal(shape), dtype)
    forward = jax.jit(
        lambda params, images: network.apply(params, network_state, None, images, False)[0]['logits']
    )
    start = time.perf_counter()
    compiled = forward.lower(params, images).compile()
    told = compiled_figures(compiled, time.perf_counter() - start)

    def run() -> float:
        start = time.perf_counter()
        compiled(params, images).block_until_ready()
        return time.perf_counter() - start

    return run, told


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
    matrix = jnp.ones((_MATRIX, _MATRIX), jnp.dtype(precision))
    product = jax.jit(jnp.matmul)
    product(matrix, matrix).block_until_ready()
    seconds = []
    for _ in range(10):
        start = time.perf_counter()
        product(matrix, matrix).block_until_ready()
        seconds.append(time.perf_counter() - start)
    return 2 * _MATRIX**3 / min(seconds)


def in_turn(timers: dict[str, Timer], rounds: int) -> dict[str, np.ndarray]:
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


def times(arguments: argparse.Namespace, seconds: np.ndarray, rate: float) -> dict[str, float]:
    """What follows from our own times."""
    passes = {'step': 3 + (3 * 0.2 if arguments.sam else 0), 'eval': 1}[arguments.command]
    work = 2 * passes * arguments.batch * network_cost(arguments.variant, arguments.image_size).multiply_adds
    median = float(np.median(seconds))
    return {
        **spread(seconds),
        'images_per_second': round(arguments.batch * jax.device_count() / median, 2),
        'product_rate_gflops': round(rate / 1e9),
        'share_of_product_rate': round(work / median / rate, 3),
    }


def compare(seconds: dict[str, np.ndarray]) -> dict[str, Any]:
    """Each of the others, and our time relative to theirs within rounds: median, least and largest."""
    ours, table = seconds['ours'], {}
    for name, theirs in seconds.items():
        if name != 'ours':
            ratio = ours / theirs
            bounds = {'ratio': np.median(ratio), 'least_ratio': ratio.min(), 'largest_ratio': ratio.max()}
            table[name] = spread(theirs) | {key: round(float(value), 3) for key, value in bounds.items()}
    return table


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """Everything that is printed."""
    make = our_step if arguments.command == 'step' else our_eval
    rate = product_rate(arguments.precision)
    run, told = make(arguments)
    timers = {'ours': run}
    failed: dict[str, str] = {}
    with contextlib.ExitStack() as stack:
        if arguments.against == 'xla':
            with only_xla():
                timers['xla'], told_xla = make(arguments)
            told |= {f'{name}_of_xla': value for name, value in told_xla.items()}
        elif arguments.against == 'timm':
            worker = stack.enter_context(Worker(arguments))
            timers |= worker.timers
            failed = worker.failed
        seconds = in_turn(timers, arguments.rounds)
    timed = times(arguments, seconds['ours'], rate) if arguments.rounds else {}
    return {
        **{name: value for name, value in vars(arguments).items() if name != 'rounds'},
        'device': f'{jax.devices()[0].device_kind}, {jax.device_count()} of them',
        'jax': jax.__version__,
        **timed,
        **told,
        **({'against_figures': compare(seconds)} if timed and len(timers) > 1 else {}),
        **({'failed': failed} if failed else {}),
    }


def measure_input(arguments: argparse.Namespace) -> dict[str, Any]:
    """Everything that is printed of the input."""
    import benchmark_input  # Late: TensorFlow.

    told = benchmark_input.measure(arguments)
    if arguments.batch_on_device:
        stages = benchmark_input.device_stages(arguments.variant, arguments.batch_on_device)
        arguments.batch = arguments.batch_on_device
        run, _ = our_step(arguments)
        seconds = in_turn({'step': run}, 5)['step']
        step = round(1e3 * float(np.median(seconds)) / arguments.batch, 3)
        share = round((stages['mixing'] + stages['randaugment']) / step, 4)
        told['device_ms_an_image'] = {**stages, 'step': step, 'share_of_step': share}
    return told


def measure_checkpoint(arguments: argparse.Namespace) -> dict[str, Any]:
    """Everything that is printed of checkpoints."""
    import benchmark_checkpoint  # Late: Orbax.

    run, _ = our_step(arguments)
    step = float(np.median(in_turn({'step': run}, arguments.rounds)['step']))
    state = jax.jit(build.new_state, static_argnums=0)(settings(arguments))
    told = benchmark_checkpoint.measure(state, arguments.rounds)
    named = ('command', 'variant', 'batch', 'image_size', 'precision')
    return {
        **{name: getattr(arguments, name) for name in named},
        'device': f'{jax.devices()[0].device_kind}, {jax.device_count()} of them',
        'step_ms': round(1e3 * step, 1),
        **told,
        'rest_share_of_step': round(told['rest_ms'] / (1e3 * step), 4),
    }


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest='command', required=True)
    for name, told in (('step', 'the training step'), ('eval', 'the forward pass in evaluation')):
        command = commands.add_parser(name, help=told)
        command.add_argument('--variant', default='F0', choices=VARIANTS)
        command.add_argument('--batch', type=int, default=8, help='images on each device')
        command.add_argument('--image-size', type=int, help="px; the variant's own if left out")
        command.add_argument('--precision', default='float32', choices=('float32', 'bfloat16'))
        command.add_argument('--scan', action='store_true', help='model.scan')
        command.add_argument('--rounds', type=int, default=10, help='times that each is run; 0: only compile')
        command.add_argument('--against', choices=('timm', 'xla'))
    step = commands.choices['step']
    step.add_argument('--remat', action='store_true', help='model.remat')
    step.add_argument('--accumulate', type=int, default=1, help='train.accumulate_steps')
    step.add_argument('--sam', action='store_true', help="with the paper's sharpness-aware gradient")
    step.add_argument('--augment', action='store_true', help="with the paper's augmentation")
    checkpoint = commands.add_parser('checkpoint', help='what saving the state takes')
    checkpoint.add_argument('--variant', default='F0', choices=VARIANTS)
    checkpoint.add_argument('--batch', type=int, default=32, help='images on each device')
    checkpoint.add_argument('--image-size', type=int, help="px; the variant's own if left out")
    checkpoint.add_argument('--precision', default='float32', choices=('float32', 'bfloat16'))
    checkpoint.add_argument('--rounds', type=int, default=3, help='times that each is run')
    parse_input(commands.add_parser('input', help='reading, decoding and augmenting'))
    arguments = parser.parse_args()
    if arguments.command != 'step':
        arguments.sam = arguments.augment = arguments.remat = False
        arguments.accumulate = 1
    if arguments.command in ('input', 'checkpoint'):
        arguments.scan = False
    if arguments.command == 'input':
        arguments.precision = 'float32'
        arguments.image_size = VARIANTS[arguments.variant].train_size
    if arguments.image_size is None:
        variant = VARIANTS[arguments.variant]
        arguments.image_size = variant.eval_size if arguments.command == 'eval' else variant.train_size
    return arguments


def parse_input(command: argparse.ArgumentParser) -> None:
    command.add_argument('--variant', default='F0', choices=VARIANTS)
    command.add_argument(
        '--source', default='made', choices=('made', *KINDS), help='JPEGs of its own, or a data.source'
    )
    command.add_argument('--dir', help='data.dir')
    command.add_argument('--name', default='imagenet2012', help='data.name')
    command.add_argument('--split', default='train', help='data.train_split')
    command.add_argument('--batch', type=int, default=128, help='images that the host makes at a time')
    command.add_argument('--images', type=int, default=1024, help='images that each round makes at least')
    command.add_argument('--rounds', type=int, default=3, help='times that each is run')
    command.add_argument('--batch-on-device', type=int, default=8, help='0: leave the device out')
    command.add_argument('--against', choices=('pil',))


def main() -> None:
    arguments = parse()  # What is mistyped is told before anything is started.
    host.tune()
    run = {'input': measure_input, 'checkpoint': measure_checkpoint}.get(arguments.command, measure)
    cli.guard(lambda: print(json.dumps(run(arguments))))


if __name__ == '__main__':
    main()
