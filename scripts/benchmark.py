"""Times training step, forward pass, input or checkpoints of a variant on this machine; prints a JSON object.

    python scripts/benchmark.py step --variant F0 --batch 8 --image-size 192
    python scripts/benchmark.py step --against timm        # in turn with PyTorch; needs torch and timm
    python scripts/benchmark.py step --against xla         # in turn with XLA's own convolutions
    python scripts/benchmark.py eval --variant F0 --precision bfloat16
    python scripts/benchmark.py eval --against network     # in turn with the network as in training
    python scripts/benchmark.py input --variant F0 --against pil    # JPEGs of its own
    python scripts/benchmark.py input --variant F0 --source tfds --dir DATA
    python scripts/benchmark.py input --variant F0 --against bucket    # records from disk and bucket
    python scripts/benchmark.py checkpoint --variant F0 --batch 32
    python scripts/benchmark.py tpu --variant F0 --device v3    # an estimate by XLA's TPU compiler
    python scripts/benchmark.py tpu --config coco:NFResNet50 --classes 80 --batch 4 --device v4

A step is the whole of it: forward, back, AGC, momentum, the EMA of the parameters and metrics, on images that
lie on the device. timm's is its model in training, SGD and its AGC, as PyTorch runs it eagerly, with channels
last, and compiled, each where it works; it has no EMA. An accelerator is handed ten steps before it is waited
for, as in training. Where two are compared, each round runs every one once, and ratios are taken within
rounds. The forward pass is that of evaluation and prediction: weights are standardized and folded before.

Input is what the host does for each image trained on, with partners to mix with from the batch and with fresh
ones, in CPU time of all threads; its stages, on one thread, for each image read; and what mixing and
RandAugment then take the device, beside the step. Against pil: processes with Pillow, as many as cores.

Against a bucket it is the throughput of several processes that read ArrayRecord and TFRecord files made for
it, each its part of every batch, in turn from a disk, from a bucket that a process on this machine plays, and
from the same bucket with a latency for each request.

A checkpoint costs the thread that trains a copy of the state, and a rest, which is also given as a fraction
of the step; the writing overlaps with the next steps.

A TPU need not be here for its estimate, only libtpu (pip install 'nfnets[tpu]'); it takes minutes to compile,
and is kept for the next time. Cycles and bytes are of each part of the step, loops times their trip counts.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nfnets import host
from nfnets.commands.command_line import Parser, run
from nfnets.data.imagenet import NUM_CLASSES
from nfnets.data.load import KINDS
from nfnets.models.variants import RECIPES, VARIANTS
from nfnets.planning.compiler import EFFORTS
from nfnets.planning.tpus import DEVICES


def main(argv: Sequence[str]) -> None:
    """Measures what the words of the command line say."""
    arguments = vars(_parser().parse_args(argv))
    host.tune()
    print(json.dumps(_measure(**arguments)))


def _measure(command: str, rounds: int = 0, **settings: Any) -> dict[str, Any]:
    # Late: TensorFlow and Orbax take seconds to import.
    if command == 'tpu':
        from benchmarks import tpu

        return tpu.measure(tpu.Setup(**settings))
    if command == 'input':
        from benchmarks import input

        return input.measure(input.Setup(**settings), rounds)
    if command == 'checkpoint':
        from benchmarks import checkpoint

        return checkpoint.measure(_step_setup(command, **settings), rounds)
    from benchmarks import step

    return step.measure(_step_setup(command, **settings), rounds)


def _step_setup(command: str, variant: str, image_size: int | None, **settings: Any) -> Any:
    from benchmarks.step import Setup

    if image_size is None:
        recipe = RECIPES[variant]
        image_size = recipe.eval_size if command == 'eval' else recipe.train_size
    return Setup(command, variant, image_size=image_size, **settings)


def _parser() -> Parser:
    parser = Parser(__doc__)
    commands = parser.add_subparsers(dest='command', required=True, parser_class=Parser)
    step = commands.add_parser('step', help='the training step')
    forward = commands.add_parser('eval', help='the forward pass in evaluation')
    for command in (step, forward):
        _add_network(command, batch=8, rounds=10, rounds_help='times that each is run; 0: only compile')
        others = ('timm', 'xla') if command is step else ('timm', 'xla', 'network')
        command.add_argument('--against', choices=others)
    step.add_argument('--scan', action='store_true', help='model.scan')
    step.add_argument('--remat', action='store_true', help='model.remat')
    step.add_argument('--accumulate', type=int, default=1, help='train.accumulate_steps')
    step.add_argument('--sam', action='store_true', help="with the paper's sharpness-aware gradient")
    step.add_argument('--augment', action='store_true', help="with the paper's augmentation")
    checkpoint = commands.add_parser('checkpoint', help='what saving the state takes')
    _add_network(checkpoint, batch=32, rounds=3, rounds_help='times that each is run')
    _add_input(commands.add_parser('input', help='reading, decoding and augmenting'))
    _add_tpu(commands.add_parser('tpu', help="the training step, estimated by XLA's TPU compiler"))
    return parser


def _add_network(command: argparse.ArgumentParser, batch: int, rounds: int, rounds_help: str) -> None:
    command.add_argument('--variant', default='F0', choices=VARIANTS)
    command.add_argument('--batch', type=int, default=batch, help='images on each device')
    command.add_argument('--image-size', type=int, help="px; default: the variant's own")
    command.add_argument('--precision', default='float32', choices=('float32', 'bfloat16'))
    command.add_argument('--rounds', type=int, default=rounds, help=rounds_help)


def _add_input(command: argparse.ArgumentParser) -> None:
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
    command.add_argument('--against', choices=('pil', 'bucket'))
    command.add_argument('--processes', type=int, default=2, help='hosts that read from the bucket at once')
    command.add_argument('--latency-ms', type=int, default=30, help='of each request to the bucket')


def _add_tpu(command: argparse.ArgumentParser) -> None:
    recipe = command.add_mutually_exclusive_group()
    recipe.add_argument('--variant', default='F0', choices=VARIANTS, help="ImageNet's recipe")
    recipe.add_argument('--config', help='any recipe by its name, as coco:NFResNet50')
    command.add_argument('--classes', type=int, default=NUM_CLASSES, help='of the data')
    command.add_argument('--device', default='v3', choices=DEVICES)
    command.add_argument('--batch', type=int, default=32, help='images on each device')
    command.add_argument('--augment', action='store_true', help="with the paper's augmentation")
    command.add_argument('--scan', action='store_true', help='model.scan')
    command.add_argument('--remat', action='store_true', help='model.remat')
    command.add_argument(
        '--shard-optimizer', action='store_true', help="train.shard_optimizer, over one host's devices"
    )
    command.add_argument('--sam', action='store_true', help="with the paper's sharpness-aware gradient")
    command.add_argument('--effort', default='default', choices=EFFORTS, help='of the compiler')
    command.add_argument('--against-file', type=Path, help='what an earlier call printed, to compare with')


if __name__ == '__main__':
    run(main)
