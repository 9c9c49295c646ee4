"""Writes a checkpoint's network for other runtimes: ONNX, StableHLO, or TensorFlow's SavedModel.

    nfnets-export released:F0 F0.onnx
    nfnets-export --ema RUN model.stablehlo --uint8
    nfnets-export released:F0 F0 --precision=float16      # a SavedModel

Weights are standardized and folded into plain convolutions. The network takes any number of images, of one
size, normalized, or with --uint8 pixels, and gives logits. Class names and preprocessing go with it. What was
written is run in its runtime, and its logits are compared with this project's.

CHECKPOINT is a file, the working directory of a run, or a name, as for nfnets-predict. TARGET's form follows
from its name: .onnx, .stablehlo (a program of jax.export for CPU, CUDA and TPU), and without a suffix a
SavedModel.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from nfnets import host
from nfnets.commands.command_line import Parser, add_checkpoint, path_argument, run, size_argument
from nfnets.errors import InputError
from nfnets.files import is_local

_EXACT = 1e-5  # What logits may differ by in float32, relative to the largest.


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the command; does not return."""
    run(_export, argv)


def _export(argv: Sequence[str]) -> None:
    arguments = _parser().parse_args(argv)
    host.tune()
    from nfnets.export.write import FORMS, check_target, export  # Late: TensorFlow takes seconds to import.
    from nfnets.inference.classifier import make_classifier
    from nfnets.weights.load import load_checkpoint

    if not is_local(arguments.target):
        raise InputError(f'{arguments.target} cannot be written: give a path on a disk')
    target, precision = Path(arguments.target), arguments.precision
    form = arguments.to or next((name for name, f in FORMS.items() if f.suffix == target.suffix), None)
    if form is None:
        suffixes = ', '.join(filter(None, (f.suffix for f in FORMS.values())))
        raise InputError(f'the format of {target} is not clear: give one of {suffixes} or none, or --to')
    check_target(target, form, precision)
    weights = load_checkpoint(arguments.checkpoint)
    _, about = weights.choose(arguments.ema)
    classifier = make_classifier(weights, ema=arguments.ema, size=arguments.size)
    done = export(classifier, about, target, form, precision=precision, from_pixels=arguments.uint8)
    size, dtype = classifier.preprocessing.size, 'uint8' if arguments.uint8 else 'float32'
    print(f'{target} ({form}, {precision}): {done.num_bytes / 2**20:.1f} MiB')
    print(f'logits differ by up to {done.difference:.1e} of the largest, on random images')
    print(f'to run it on images, {dtype} [N, {size}, {size}, 3]:\n')
    print(FORMS[form].usage.format(target=str(target)))
    if precision == 'float32' and not done.difference <= _EXACT:
        print(f'warning: logits differ by more than {_EXACT} of the largest', file=sys.stderr)


def _parser() -> Parser:
    parser = Parser(__doc__)
    add_checkpoint(parser, 'checkpoint')
    parser.add_argument('target', type=path_argument, help='file or directory to write; must not exist')
    parser.add_argument(
        '--to', choices=('onnx', 'stablehlo', 'saved_model'), help='format of the target, whatever its suffix'
    )
    parser.add_argument('--size', type=size_argument, metavar='PX', help="side of the network's input")
    parser.add_argument(
        '--uint8', action='store_true', help='take pixels, uint8 [N, H, W, 3], and normalize them inside'
    )
    parser.add_argument(
        '--precision',
        choices=('float32', 'bfloat16', 'float16'),
        default='float32',
        help='dtype of weights and computation; images and logits are float32',
    )
    return parser
