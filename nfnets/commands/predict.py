"""Classifies images: prints the five likeliest classes of each, with their probabilities.

    nfnets-predict cat.jpg photos 'scans/*.png' --checkpoint=released:F0

An image is of any format that Pillow reads. A directory stands for all images below it, by their endings,
and a quoted pattern for those that it matches; each may be in a bucket, gs://BUCKET/PATH.

The checkpoint is a file released with the paper, a .npz of this project, timm's .safetensors or .pth, or the
working directory of a run; or one of these by name, released:F0, timm:dm_nfnet_f0 or hf:OWNER/NAME, which is
downloaded once. It knows the network, the preprocessing, and the names of the classes; those released and
timm's have ImageNet's.
"""

import json
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from etils import epath

from nfnets import host
from nfnets.commands.command_line import Offline, Parser, checkpoint_argument, run, size_argument
from nfnets.inference.tables import csv_rows

if TYPE_CHECKING:
    from nfnets.inference.predict import Prediction

COLUMNS = ('image', 'rank', 'label', 'name', 'probability')


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the command; does not return."""
    run(_predict, argv)


def _predict(argv: Sequence[str]) -> None:
    parser = Parser(__doc__)
    parser.add_argument('image', nargs='+', help='a file, a directory, or a quoted pattern')
    parser.add_argument('--checkpoint', type=checkpoint_argument, required=True, metavar='PATH')
    parser.add_argument(
        '--ema', action='store_true', help='of a working directory, the EMA of the parameters'
    )
    parser.add_argument('--offline', action=Offline)
    parser.add_argument('--size', type=size_argument, metavar='PX', help="side of the network's input")
    forms = parser.add_mutually_exclusive_group()
    forms.add_argument('--json', action='store_true', help='one JSON object a line, for each image')
    forms.add_argument('--csv', action='store_true', help=f'a table: {", ".join(COLUMNS)}')
    arguments = parser.parse_args(argv)
    host.tune()
    from nfnets.data.image_files import find_images  # Late: TensorFlow takes seconds to import.
    from nfnets.inference.predict import load

    images, skipped = find_images(arguments.image)
    if skipped is not None:
        print(skipped, file=sys.stderr)
    predictor = load(arguments.checkpoint, ema=arguments.ema, size=arguments.size)
    form = as_csv if arguments.csv else as_json if arguments.json else as_text
    if arguments.csv:
        print(csv_rows([COLUMNS]))
    for path, predictions in predictor.classify(images):
        print(form(path, predictions), flush=True)


def as_text(path: epath.Path, predictions: list['Prediction']) -> str:
    """The predictions of an image as a few lines of text."""
    return '\n'.join([str(path), *(f'  {100 * p.probability:5.1f}%  {p.name}' for p in predictions)])


def as_json(path: epath.Path, predictions: list['Prediction']) -> str:
    """One line for programs."""
    return json.dumps({'image': str(path), 'predictions': [p._asdict() for p in predictions]})


def as_csv(path: epath.Path, predictions: list['Prediction']) -> str:
    """A row for each class."""
    return csv_rows([(path, rank, *prediction) for rank, prediction in enumerate(predictions, 1)])
