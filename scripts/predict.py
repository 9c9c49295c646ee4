"""Classifies pictures: prints the five likeliest classes of each, with their probabilities.

    python scripts/predict.py cat.jpg photos 'scans/*.png' --checkpoint=F0_haiku.npz

A picture is of any format that Pillow reads. A directory stands for all pictures below it, by their endings,
and a quoted pattern for those that it matches; each may be in a bucket, gs://BUCKET/PATH.

The checkpoint is a file released with the paper, a .npz of this project, timm's .safetensors or .pth, or the
working directory of a run. It tells the network, how pictures are preprocessed, and the names of the classes;
those released and timm's have ImageNet's.
"""

import argparse
import csv
import io
import json
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from etils import epath

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # Runs from a clone, not installed.

from nfnets import cli
from nfnets.data.picture import find_pictures
from nfnets.predict import Prediction, Predictor
from nfnets.weights.load import load_checkpoint

COLUMNS = ('image', 'rank', 'label', 'name', 'probability')


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('image', nargs='+', help='a file, a directory, or a quoted pattern')
    parser.add_argument('--checkpoint', required=True, metavar='PATH')
    parser.add_argument('--ema', action='store_true', help='of a working directory, the averaged parameters')
    parser.add_argument('--size', type=int, metavar='PX', help="side of the network's input")
    form = parser.add_mutually_exclusive_group()
    form.add_argument('--json', action='store_true', help='one JSON object a line, for each picture')
    form.add_argument('--csv', action='store_true', help=f'a table: {", ".join(COLUMNS)}')
    return parser.parse_args()


def as_text(path: epath.Path, predictions: list[Prediction]) -> str:
    """A few lines for people."""
    return '\n'.join([str(path), *(f'  {100 * p.probability:5.1f}%  {p.name}' for p in predictions)])


def as_json(path: epath.Path, predictions: list[Prediction]) -> str:
    """One line for programs."""
    return json.dumps({'image': str(path), 'predictions': [p._asdict() for p in predictions]})


def as_csv(path: epath.Path, predictions: list[Prediction]) -> str:
    """A row for each class."""
    return _rows([(path, rank, *prediction) for rank, prediction in enumerate(predictions, 1)])


def _rows(rows: Iterable[Sequence[object]]) -> str:
    file = io.StringIO()
    csv.writer(file, lineterminator='\n').writerows(rows)
    return file.getvalue().removesuffix('\n')


def main() -> None:
    arguments = parse()
    pictures, skipped = find_pictures(arguments.image)
    if skipped is not None:
        print(skipped, file=sys.stderr)
    weights = load_checkpoint(arguments.checkpoint)
    predictor = Predictor(weights, ema=arguments.ema, size=arguments.size)
    form = as_csv if arguments.csv else as_json if arguments.json else as_text
    if arguments.csv:
        print(_rows([COLUMNS]))
    for path, predictions in predictor.classify(pictures):
        print(form(path, predictions), flush=True)


if __name__ == '__main__':
    cli.guard(main)
