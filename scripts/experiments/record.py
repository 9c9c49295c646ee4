"""Records a complete run of nfnets-train, with its curves, as a line of JSON in results/, and draws them.

    nfnets-train --config=fashion_mnist --workdir=RUN --config.data.dir=DATA
    python scripts/experiments/record.py RUN --config=fashion_mnist --plot docs/fashion_mnist.png
    python scripts/experiments/page.py    # puts what is recorded into the documents

Seconds are those that its processes wrote metrics in, from the start of each to its end: compilation and
evaluations included, imports not.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from etils import epath
from matplotlib.figure import Figure
from sweep import CALLED, MEASURES, Record, circumstances, measures

from nfnets.commands.command_line import Parser, run
from nfnets.commands.config_flags import load
from nfnets.config import flatten
from nfnets.errors import InputError
from nfnets.run.logged import Curve, Run, read_logged_run, thin

RUNS = 'runs.jsonl'  # Of results/.
_POINTS = 100  # Of a curve, at most.
# Where the data is, and what follows from numbers of steps.
_NOT_RECORDED = ('data.dir', 'train.epochs', 'optimizer.warmup_epochs')


def record_of(given: Run, config: str) -> Record:
    """What a run came to.

    Args:
      given: the run.
      config: as after `--config=`, from which it differs by the settings recorded.

    Raises:
      InputError: it is not complete.
    """
    steps, curves = given.config.train.steps, given.curves
    names = MEASURES[given.config.task]
    first = f'eval/{names[0]}'
    if first not in curves or curves[first].steps[-1] != steps:
        raise InputError(
            f'{given.workdir} is not complete: it has train.steps={steps}, and came to {given.step}'
        )
    return {
        'config': config,
        'settings': differences(flatten(given.config.to_dict()), flatten(load(config).to_dict())),
        'steps': steps,
        **{name: given.last(f'eval/{name}') for name in names},
        **{f'ema_{name}': given.last(f'eval_ema/{name}') for name in names},
        'diverged': None,
        'train_loss': given.last('train/loss'),
        'curves': {
            curve: _pairs(thin(curves[curve], _POINTS))
            for curve in ('train/loss', first, f'eval_ema/{names[0]}')
        },
        'seconds': round(_seconds(Path(given.workdir))),
        'jobs': 1,
        **circumstances(),
    }


def _seconds(workdir: Path) -> float:
    """Of all processes that trained in turn; the names of their files say when each began."""
    paths = workdir.glob('events.out.tfevents.*')
    return sum(path.stat().st_mtime - int(path.name.split('.')[3]) for path in paths)


def differences(settings: dict[str, Any], base: dict[str, Any]) -> dict[str, Any]:
    """Settings that differ from those that a config gives explicitly."""
    return {
        key: value
        for key, value in settings.items()
        if key not in _NOT_RECORDED and base[key] is not None and value != base[key]
    }


def _pairs(curve: Curve) -> list[list[float]]:
    return [[int(step), round(float(value), 4)] for step, value in zip(*curve, strict=True)]


def draw(record: Record, path: Path) -> None:
    """Loss in training, and accuracy in evaluation, by step."""
    figure = Figure(figsize=(10, 4), layout='constrained')
    left, right = figure.subplots(1, 2)
    curves = record['curves']
    left.plot(*zip(*curves['train/loss'], strict=True))
    left.set(xlabel='step', ylabel='training loss')
    measure = measures(record)[0]
    for prefix, label in (('eval', 'parameters'), ('eval_ema', 'EMA')):
        steps, values = zip(*curves[f'{prefix}/{measure}'], strict=True)
        right.plot(steps, [100 * value for value in values], marker='o', label=label)
    right.set(xlabel='step', ylabel=f'{CALLED[measure]}, %')
    right.legend()
    for axes in (left, right):
        axes.grid(alpha=0.3)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=100)


def main(argv: Sequence[str]) -> None:
    """Appends the record of a run, and draws it on request."""
    parser = Parser(__doc__)
    parser.add_argument('run', type=epath.Path, help='working directory')
    parser.add_argument('--config', required=True, help='that it was started with, such as fashion_mnist')
    parser.add_argument('--results', type=Path, default=Path('results'), help='directory of the records')
    parser.add_argument('--plot', type=Path, help='draws its curves into this file')
    arguments = parser.parse_args(argv)
    record = record_of(read_logged_run(arguments.run), arguments.config)
    arguments.results.mkdir(parents=True, exist_ok=True)
    with (arguments.results / RUNS).open('a') as lines:
        lines.write(json.dumps(record) + '\n')
    if arguments.plot:
        draw(record, arguments.plot)
    measure = measures(record)[0]
    print(f'{arguments.config} {record["settings"]}: {CALLED[measure]} {100 * record[measure]:.2f}%')


if __name__ == '__main__':
    run(main)
