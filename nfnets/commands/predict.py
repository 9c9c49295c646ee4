"""Classifies images: prints the five likeliest classes of each, with their probabilities.

    nfnets-predict cat.jpg photos 'scans/*.png' --checkpoint=released:F0

Or finds the objects in images, and draws them, if the checkpoint is the working directory of a run that
detects:

    nfnets-predict street.jpg --checkpoint=RUN --draw=DRAWINGS

An image is of any format that Pillow reads. A directory stands for all images below it, by their endings,
and a quoted pattern for those that it matches; each may be in a bucket, gs://BUCKET/PATH.

The checkpoint is a file released with the paper, a .npz of this project, timm's .safetensors or .pth, or the
working directory of a run; or one of these by name, released:F0, timm:dm_nfnet_f0 or hf:OWNER/NAME, which is
downloaded once. It knows the network, the preprocessing, and the names of the classes; those released and
timm's have ImageNet's.
"""

import argparse
import json
import re
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from etils import epath

from nfnets import host
from nfnets.commands.command_line import Parser, add_checkpoint, path_argument, run, size_argument
from nfnets.errors import InputError
from nfnets.files import is_folder
from nfnets.inference.tables import csv_rows
from nfnets.weights.by_name import is_name

if TYPE_CHECKING:
    from nfnets.inference.predict import Prediction

LEAST_SCORE = 0.5
COLUMNS = ('image', 'rank', 'label', 'name', 'probability')


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the command; does not return."""
    run(_predict, argv)


def _predict(argv: Sequence[str]) -> None:
    parser = Parser(__doc__)
    parser.add_argument('image', nargs='+', help='a file, a directory, or a quoted pattern')
    add_checkpoint(parser, '--checkpoint', required=True, metavar='PATH')
    parser.add_argument('--size', type=size_argument, metavar='PX', help="side of the network's input")
    forms = parser.add_mutually_exclusive_group()
    forms.add_argument('--json', action='store_true', help='one JSON object a line, for each image')
    forms.add_argument(
        '--csv', action='store_true', help=f'a table: {", ".join(COLUMNS)}; of objects score and box'
    )
    parser.add_argument(
        '--draw',
        type=path_argument,
        metavar='DIR',
        help='write DIR/NAME.objects.png: boxes, masks, names, scores',
    )
    parser.add_argument(
        '--least',
        type=_probability,
        metavar='SCORE',
        help=f'least score of an object to be shown [{LEAST_SCORE}]',
    )
    arguments = parser.parse_args(argv)
    host.tune()
    from nfnets.data.image_files import find_images  # Late: TensorFlow takes seconds to import.

    images, skipped = find_images(arguments.image)
    if skipped is not None:
        print(skipped, file=sys.stderr)
    (_detect if _is_detector(arguments.checkpoint) else _classify)(images, arguments)


def _is_detector(checkpoint: epath.Path) -> bool:
    """Whether a checkpoint is the working directory of a run that detects."""
    from nfnets.run.workdir import read_config

    return (
        not is_name(checkpoint) and is_folder(checkpoint) and read_config(checkpoint)['task'] == 'detection'
    )


def _classify(images: Sequence[epath.Path], arguments: argparse.Namespace) -> None:
    from nfnets.inference.predict import load

    for name in ('draw', 'least'):
        if getattr(arguments, name) is not None:
            raise InputError(f'--{name} is for detectors, and {arguments.checkpoint} is of a classifier')
    predictor = load(arguments.checkpoint, ema=arguments.ema, size=arguments.size)
    form = as_csv if arguments.csv else as_json if arguments.json else as_text
    if arguments.csv:
        print(csv_rows([COLUMNS]))
    for path, predictions in predictor.classify(images):
        print(form(path, predictions), flush=True)


def _detect(images: Sequence[epath.Path], arguments: argparse.Namespace) -> None:
    from nfnets.commands import detections
    from nfnets.inference.detector import Detector

    least = LEAST_SCORE if arguments.least is None else arguments.least
    drawings = None if arguments.draw is None else detections.Drawings(arguments.draw)
    detector = Detector(arguments.checkpoint, ema=arguments.ema, size=arguments.size)
    form = next(
        (getattr(detections, f'as_{name}') for name in ('csv', 'json') if getattr(arguments, name)),
        detections.as_text,
    )
    if arguments.csv:
        print(csv_rows([detections.COLUMNS]))
    for found in detector.detect(images):
        objects = list(detections.rows(found, detector.class_names, least))
        if objects or not arguments.csv:
            print(form(found.image, objects), flush=True)
        if drawings is not None:
            drawings.write(found, detector.class_names, least)


def _probability(text: str) -> float:
    if not re.fullmatch(r'0|1|[01]?\.\d+', text) or float(text) > 1:
        raise argparse.ArgumentTypeError(f'{text!r} must be a probability, from 0 to 1')
    return float(text)


def as_text(path: epath.Path, predictions: list['Prediction']) -> str:
    """The predictions of an image as a few lines of text."""
    return '\n'.join([str(path), *(f'  {100 * p.probability:5.1f}%  {p.name}' for p in predictions)])


def as_json(path: epath.Path, predictions: list['Prediction']) -> str:
    """The predictions of an image as one JSON line."""
    return json.dumps({'image': str(path), 'predictions': [p._asdict() for p in predictions]})


def as_csv(path: epath.Path, predictions: list['Prediction']) -> str:
    """The predictions of an image as rows of CSV, one for each class."""
    return csv_rows([(path, rank, *prediction) for rank, prediction in enumerate(predictions, 1)])
