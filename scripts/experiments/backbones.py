"""Whether a normalizer-free backbone serves in Mask R-CNN as it is: three networks on scenes, by one recipe.

    python scripts/experiments/scenes.py SCENES
    python scripts/experiments/backbones.py --dir SCENES --workdir runs/backbones

An NFNet, an NF-ResNet and a ResNet with batch normalization (`--config=scenes:ResNet`) are pre-trained to
classify what scenes are put together from, garments and digits, then trained to find it. Each seed has its
own initial parameters, pre-training and order of examples. Prints a table of the average precision on the
held-out scenes in percent, mean and standard deviation over the seeds. Complete runs are lines of a file in
results/ and are not repeated.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pieces import GARMENTS, Pieces, load_pieces
from PIL import Image
from studies import NEVER
from sweep import CALLED, MEASURES, Record, Run, add_flags, records, run_all, summarize

from nfnets.commands.command_line import Parser, run
from nfnets.commands.config_flags import load
from nfnets.config import get

NETWORKS = {'NFNet': 'NFNet', 'NF-ResNet': 'NFResNet', 'ResNet, batch norm': 'ResNet'}
SEEDS = 3
_PIECES = {'train': 20_000, 'val': 2000}  # Drawn as for scenes: each class alike, each of a class alike.
_OF_NETWORK = ('model.widths', 'model.depths', 'model.group_width', 'optimizer.agc_clipping')
_AT_THE_END = {'eval.every_steps': NEVER, 'checkpoint.every_steps': NEVER}
_MEASURES = MEASURES['detection']


def pre_training(network: str, seed: int) -> Run:
    """The backbone as a classifier of pieces, by the recipe of `--config=fashion_mnist`, but shorter."""
    scenes = load(f'scenes:{network}')
    settings: dict[str, Any] = {
        'seed': seed,
        **_AT_THE_END,
        **{key: get(scenes, key) for key in _OF_NETWORK},
        'data.source': 'folder',
        'data.eval_split': 'val',
        'data.flip': False,  # As in scenes.
        'train.steps': 1000,
        'optimizer.ema_decay': 0.99,
    }
    return Run(f'fashion_mnist:{network}', settings)


def detection(network: str, seed: int) -> Run:
    """The detector, by the recipe of `--config=scenes`, but shorter."""
    return Run(
        f'scenes:{network}', {'seed': seed, **_AT_THE_END, 'train.steps': 400}, pre_training(network, seed)
    )


def of_seeds(label: str) -> list[Run]:
    """The detectors on one backbone, a run for each seed."""
    return [detection(NETWORKS[label], seed) for seed in range(SEEDS)]


def all_runs() -> list[Run]:
    """All detectors, seed by seed."""
    return [each for seed in zip(*map(of_seeds, NETWORKS), strict=True) for each in seed]


def table(there: dict[str, Record]) -> str:
    """A Markdown table of the records that there are."""
    lines = [
        '| backbone | top-1 of pieces | ' + ' | '.join(CALLED[measure] for measure in _MEASURES) + ' |',
        '|---' * 6 + '|',
    ]
    for label in NETWORKS:
        runs = of_seeds(label)
        starts = [run.start for run in runs if run.start is not None]
        cells = [summarize(starts, there)]
        cells += [summarize(runs, there, chance=0.0, measure=measure) for measure in _MEASURES]
        lines.append(f'| {label} | ' + ' | '.join(map(str, cells)) + ' |')
    return '\n'.join(lines)


def write_pieces(garments: Path, target: Path) -> None:
    """Writes pieces as a folder of images by class, `train` and `val`, which share none."""
    for place, (split, count) in enumerate(_PIECES.items()):
        _write(load_pieces(garments, split), count, target / split, np.random.default_rng(place))


def _write(pieces: Pieces, count: int, target: Path, rng: np.random.Generator) -> None:
    for number in range(count):
        piece, label = pieces.draw(rng)
        path = target / f'{label:02}' / f'{number}.png'
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(piece).save(path)


def main(argv: Sequence[str]) -> None:
    """Does the runs that are lacking, and prints the table."""
    parser = Parser(__doc__)
    parser.add_argument('--dir', required=True, help='of the scenes')
    parser.add_argument('--garments', type=Path, default=GARMENTS, help="Fashion-MNIST's files [%(default)s]")
    add_flags(parser)
    arguments = parser.parse_args(argv)
    if not arguments.only_table:
        pieces = arguments.workdir / 'pieces'
        write_pieces(arguments.garments, pieces)
        data_dirs = {'fashion_mnist': str(pieces), 'scenes': arguments.dir}
        results = arguments.results / 'backbones.jsonl'
        run_all(all_runs(), results, arguments.workdir, arguments.jobs, data_dirs)
    print(table(records(arguments.results)))


if __name__ == '__main__':
    run(main)
