"""Classifies pictures: prints the five likeliest classes of each, with their probabilities.

    python scripts/predict.py cat.jpg dog.png --checkpoint=F0_haiku.npz

The checkpoint is a file released with the paper, a .npz of this project, timm's .safetensors or .pth, or the
working directory of a run. It tells the network, how pictures are preprocessed, and the names of the classes;
those released and timm's have ImageNet's.
"""

import argparse
import json
import sys
from pathlib import Path

from etils import epath

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # Runs from a clone, not installed.

from nfnets import cli
from nfnets.predict import Prediction, Predictor
from nfnets.weights.load import load_checkpoint


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('image', nargs='+', type=epath.Path, help='any format that Pillow reads')
    parser.add_argument('--checkpoint', required=True, metavar='PATH')
    parser.add_argument('--ema', action='store_true', help='of a working directory, the averaged parameters')
    parser.add_argument('--size', type=int, metavar='PX', help="side of the network's input")
    parser.add_argument('--json', action='store_true', help='one JSON object a line, for each picture')
    return parser.parse_args()


def as_text(path: epath.Path, predictions: list[Prediction]) -> str:
    """A few lines for people."""
    return '\n'.join([str(path), *(f'  {100 * p.probability:5.1f}%  {p.name}' for p in predictions)])


def as_json(path: epath.Path, predictions: list[Prediction]) -> str:
    """One line for programs."""
    return json.dumps({'image': str(path), 'predictions': [p._asdict() for p in predictions]})


def main() -> None:
    arguments = parse()
    weights = load_checkpoint(arguments.checkpoint)
    predictor = Predictor(weights, ema=arguments.ema, size=arguments.size)
    form = as_json if arguments.json else as_text
    for path, predictions in predictor.classify(arguments.image):
        print(form(path, predictions), flush=True)


if __name__ == '__main__':
    cli.guard(main)
