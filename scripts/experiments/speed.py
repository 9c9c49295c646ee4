"""How long normalizer-free networks and their batch-normalized twins take to a stated accuracy (figure 1).

    python scripts/experiments/speed.py --dir DATA --workdir runs/speed --plot docs/speed.png

NFNets, NF-ResNets and their twins (arXiv 2102.06171), narrow and wide, are trained by the recipe of
`--config=fashion_mnist` for four epochs and evaluated after each. Speed is taken apart from that: short runs
of all networks in turn, one at a time, three rounds. DATA is where TFDS has prepared `fashion_mnist`. Prints
a table: images/s, the median of the rounds; the first evaluation at 85% top-1 and the minutes up to there at
that speed; and the top-1 at the end. Complete runs are lines of a file in results/ and are not repeated.
"""

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from matplotlib.figure import Figure
from studies import NEVER
from sweep import Record, Run, add_flags, records, run_all

from nfnets.commands.command_line import Parser, run

TARGET = 0.85  # Top-1.
NETWORKS = {
    'NFNet': 'NFNet',
    'BNNet': 'NFNet with batch norm',
    'NFResNet': 'NF-ResNet',
    'ResNet': 'ResNet, batch norm',
}
WIDTHS = {'narrow': (16, 32), 'wide': (32, 64)}
_BATCH, _EPOCH, _EPOCHS = 64, 937, 4  # Images; steps.
_ROUNDS = 3
_TIMED = 500  # Steps.


class Point(NamedTuple):
    """A network's place in the figure.

    Attributes:
      name: of the network.
      width: of `WIDTHS`.
      images_per_second: in training, the median of the rounds.
      steps: up to the first evaluation at `TARGET`; None if it was not reached.
      top_1: at the end, 0..1.
    """

    name: str
    width: str
    images_per_second: float
    steps: int | None
    top_1: float

    @property
    def milliseconds(self) -> float:
        """Of training for 32 images, what a step of the paper has on each device."""
        return 32_000 / self.images_per_second

    @property
    def minutes(self) -> float | None:
        """Of training up to `TARGET`."""
        return None if self.steps is None else self.steps * _BATCH / self.images_per_second / 60


def training(network: str, width: str) -> Run:
    """The run that shows the accuracy."""
    steps = _EPOCH * _EPOCHS
    return _run(network, width, {'train.steps': steps, 'eval.every_steps': _EPOCH})


def timing(network: str, width: str, turn: int) -> Run:
    """A run that shows the speed alone, in one of the rounds."""
    return _run(network, width, {'seed': turn, 'train.steps': _TIMED, 'eval.every_steps': NEVER})


def _run(network: str, width: str, more: dict[str, Any]) -> Run:
    settings = {
        'data.train_size': 24,
        'data.eval_size': 24,
        'model.widths': WIDTHS[width],
        'model.depths': (2, 2),
        **({'model.group_width': WIDTHS[width][0] // 2} if network in ('NFNet', 'BNNet') else {}),
        'train.batch_size': _BATCH,
        'checkpoint.every_steps': NEVER,
        **more,
    }
    return Run(f'fashion_mnist:{network}', settings)


def points(there: dict[str, Record]) -> list[Point]:
    """Those whose runs are complete."""
    return [
        point
        for width in WIDTHS
        for network in NETWORKS
        if (point := _point(network, width, there)) is not None
    ]


def _point(network: str, width: str, there: dict[str, Record]) -> Point | None:
    keys = [training(network, width).key, *(timing(network, width, turn).key for turn in range(_ROUNDS))]
    if not all(key in there for key in keys):
        return None
    trained, *timed = (there[key] for key in keys)
    return Point(
        name=NETWORKS[network],
        width=width,
        images_per_second=statistics.median(each['images_per_second'] for each in timed),
        steps=next((step for step, top_1 in trained['evaluations'] if top_1 >= TARGET), None),
        top_1=trained['top_1'],
    )


def table(there: dict[str, Record]) -> str:
    """A Markdown table of the records that there are."""
    heads = ('network', 'widths', 'images/s', f'epochs to {TARGET:.0%}', 'in minutes', 'top-1 at the end')
    lines = ['| ' + ' | '.join(heads) + ' |', '|---' * len(heads) + '|']
    for point in points(there):
        epochs = '' if point.steps is None else f'{point.steps / _EPOCH:.0f}'
        minutes = '' if point.minutes is None else f'{point.minutes:.1f}'
        speed, top_1 = f'{point.images_per_second:.0f}', f'{100 * point.top_1:.1f}'
        cells = (point.name, point.width, speed, epochs, minutes, top_1)
        lines.append('| ' + ' | '.join(cells) + ' |')
    return '\n'.join(lines)


def draw(there: dict[str, Record], path: Path) -> None:
    """The paper's figure 1: accuracy by the time of a training step, a line for each network."""
    figure = Figure(figsize=(6, 4), layout='constrained')
    axes = figure.subplots()
    found = points(there)
    for name in NETWORKS.values():
        of_network = [point for point in found if point.name == name]
        axes.plot(
            [p.milliseconds for p in of_network], [100 * p.top_1 for p in of_network], marker='o', label=name
        )
    axes.set(xlabel='training, ms for 32 images', ylabel='top-1, %')
    axes.grid(alpha=0.3)
    axes.legend()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=100)


def main(argv: Sequence[str]) -> None:
    """Does the runs that are lacking, prints the table and draws the figure."""
    parser = Parser(__doc__)
    parser.add_argument('--dir', required=True, help='data.dir of Fashion-MNIST')
    add_flags(parser)
    parser.add_argument('--plot', type=Path, help='the figure')
    arguments = parser.parse_args(argv)
    results = arguments.results / 'speed.jsonl'
    if not arguments.only_table:
        data_dirs = {'fashion_mnist': arguments.dir}
        pairs = [(network, width) for width in WIDTHS for network in NETWORKS]
        trained = [training(*pair) for pair in pairs]
        timed = [timing(*pair, turn) for turn in range(_ROUNDS) for pair in pairs]
        run_all(trained, results, arguments.workdir, arguments.jobs, data_dirs)
        run_all(timed, results, arguments.workdir, 1, data_dirs)
    there = records(arguments.results)
    print(table(there))
    if arguments.plot:
        draw(there, arguments.plot)


if __name__ == '__main__':
    run(main)
