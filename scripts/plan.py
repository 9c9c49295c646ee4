"""Says what training on ImageNet would take, before anything is rented: memory, time, cores for the input.

    python scripts/plan.py --variant F5 --device v4 --devices 128 --batch 4096

The memory is that of the compiled training step, with model.scan, without and with model.remat. Where libtpu
is installed (pip install '.[tpu]'), XLA's TPU compiler tells it, after minutes and without a TPU; otherwise
XLA's CPU compiler gives an estimate. Answers are kept in ~/.cache/nfnets for the next time.
"""

import argparse
import dataclasses
import json
import math
import sys
from pathlib import Path
from typing import Any

import jax
import ml_collections

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # Runs from a clone, not installed.

from plan_text import text

from configs import imagenet
from nfnets import ahead, build, cli
from nfnets import config as config_lib
from nfnets.devices import DEVICES, Slice, get_slice
from nfnets.errors import InputError
from nfnets.plan import pace, step_times
from nfnets.variants import VARIANTS

_EXAMPLES, _CLASSES = 1_281_167, 1000  # Of ImageNet.


def settings(
    arguments: argparse.Namespace, batch_size: int, num_devices: int, remat: bool
) -> ml_collections.FrozenConfigDict:
    """The paper's config for the variant, checked and complete."""
    config = imagenet.get_config(arguments.variant)
    config.train.batch_size = batch_size
    config.train.accumulate_steps = arguments.accumulate
    config.model.scan, config.model.remat = True, remat
    config.sam.rho = 0.05 if arguments.sam else 0.0
    # It doubles the time to compile, and its memory is free again before the network needs the most.
    config.augment.randaugment_layers = 0
    config_lib.check(config)
    return config_lib.complete(config, num_examples=_EXAMPLES, num_classes=_CLASSES, num_devices=num_devices)


def memory(arguments: argparse.Namespace, devices: Slice) -> dict[str, Any]:
    """The compiler's answer, 'without_remat' and 'with_remat', of a step on one host or on a CPU."""
    tpus = ahead.tpu_devices(devices.device)
    lowered_for = jax.devices()[:1] if tpus is None else tpus
    batch_size = arguments.batch // devices.num_devices * len(lowered_for)
    answers = {}
    for name, remat in {'without_remat': False, 'with_remat': True}.items():
        compiler = 'CPU' if tpus is None else 'TPU'
        say(f'compiling the training step {name.replace("_", " ")} by XLA for {compiler}: minutes')
        config = settings(arguments, batch_size, len(lowered_for), remat)
        lowered = build.lower_train_step(config, lowered_for)
        answers[name] = ahead.ask(lowered, devices.device, for_tpu=tpus is not None)._asdict()
    return answers


def core_rate(variant: str) -> float:
    """Images a second that one core of this machine reads, decodes and resizes."""
    import benchmark_input  # Late: TensorFlow.

    say('measuring how many images one core of this machine reads and decodes: seconds')
    return benchmark_input.core_rate(variant)


def plan(arguments: argparse.Namespace) -> dict[str, Any]:
    """Everything that is printed."""
    for name in ('devices', 'batch', 'accumulate', 'step_ms', 'core_rate'):
        value = getattr(arguments, name)
        if value is not None and not 0 < value < math.inf:
            raise InputError(f'--{name.replace("_", "-")}={value} must be more than 0 and finite')
    devices = get_slice(arguments.device, arguments.devices)
    config = settings(arguments, arguments.batch, arguments.devices, remat=False)
    images = arguments.batch // arguments.devices
    if arguments.step_ms is None:
        times = step_times(arguments.variant, devices.device, images, sam=arguments.sam)
    else:
        times = {'given': arguments.step_ms}
    rate = arguments.core_rate or core_rate(arguments.variant)
    run = {
        'steps': config.train.steps,
        'batch_size': arguments.batch,
        'hosts': devices.hosts,
        'core_rate': rate,
    }
    return {
        **{name: getattr(arguments, name) for name in ('variant', 'batch', 'accumulate', 'sam')},
        'device': dataclasses.asdict(devices.device),
        'devices': arguments.devices,
        'hosts': devices.hosts,
        'accelerator_type': devices.accelerator_type,
        'images_per_device': images,
        'image_size': config.data.train_size,
        'epochs': config.train.epochs,
        'steps_per_epoch': _EXAMPLES / arguments.batch,
        'steps': config.train.steps,
        'core_rate': rate,
        'core_rate_is_measured': arguments.core_rate is None,
        'paces': {name: pace(step_ms, **run)._asdict() for name, step_ms in times.items()},
        'memory': memory(arguments, devices),
    }


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--variant', required=True, help=f'one of {", ".join(VARIANTS)}')
    parser.add_argument('--device', required=True, help=f'kind of TPU, one of {", ".join(DEVICES)}')
    parser.add_argument('--devices', type=int, required=True, help='how many, as JAX counts them')
    parser.add_argument('--batch', type=int, default=4096, help='images of a step, over all devices')
    parser.add_argument('--accumulate', type=int, default=1, help='train.accumulate_steps')
    parser.add_argument('--sam', action='store_true', help="with the paper's sharpness-aware gradient")
    parser.add_argument(
        '--step-ms', type=float, help='time of a step; estimated from the published ones if left out'
    )
    parser.add_argument(
        '--core-rate', type=float, help='images a second that one core decodes; measured here if left out'
    )
    parser.add_argument('--json', action='store_true', help='print a JSON object')
    return parser.parse_args()


def main() -> None:
    arguments = parse()
    jax.config.update('jax_platforms', 'cpu')  # Nothing runs on an accelerator, if there is one.

    def run() -> None:
        told = plan(arguments)
        print(json.dumps(told) if arguments.json else text(told))

    cli.guard(run)


if __name__ == '__main__':
    main()
