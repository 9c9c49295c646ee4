"""The curves of runs as data that `charts.js` draws."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from nfnets.run.logged import Curve, Run, thin

Chart = dict[str, Any]

_PRECISIONS = {
    'mean_average_precision': 'Mean average precision',  # Of sets of labels.
    'box_ap': 'Average precision of boxes',
    'mask_ap': 'Average precision of masks',
}
_MOST_POINTS = 400  # Of a curve: more than a screen shows.


class Line(NamedTuple):
    """One kind of curve in a chart: a metric, what it is called there, and how it is drawn."""

    metric: str
    kind: str = ''
    style: str = 'solid'  # Or 'dashed' or 'faint'.


def curves(runs: Sequence[Run]) -> list[Chart]:
    """Charts of all logged metrics by step; by epoch, if the runs' epochs differ in steps."""
    train_loss = Line('train/loss', 'training', 'faint')
    classify = any(run.config.task == 'classification' for run in runs)
    return [
        _chart(runs, 'Loss', 'nats', [train_loss, *_held_out('loss')], log=True),
        *(_accuracies(runs) if classify else []),
        *_precisions(runs),
        *_probes(runs),
        _chart(runs, 'Learning rate', '', [Line('learning_rate')]),
        _chart(runs, 'Gradient norm', 'L2', [Line('train/grad_norm')], log=True),
        _chart(runs, 'Units clipped by AGC', '%', [Line('train/agc_clipped_fraction')], scale=100),
    ]


def _accuracies(runs: Sequence[Run]) -> list[Chart]:
    return [
        _chart(runs, 'Top-1 accuracy, held out', '%', _held_out('top_1'), scale=100),
        _chart(runs, 'Top-1 accuracy, training images', '%', [Line('train/top_1')], scale=100),
    ]


def _precisions(runs: Sequence[Run]) -> list[Chart]:
    """Average precision of whatever kind was measured."""
    lines = {title: _held_out(metric) for metric, title in _PRECISIONS.items()}
    logged = set().union(*(run.curves for run in runs))
    return [
        _chart(runs, f'{title}, held out', '%', pair, scale=100)
        for title, pair in lines.items()
        if any(line.metric in logged for line in pair)
    ]


def losses_by_part(runs: Sequence[Run]) -> list[Chart]:
    """The terms that a detector's loss is the sum of."""
    return _by_group(runs, 'train/loss', 'nats', log=True)


def _probes(runs: Sequence[Run]) -> list[Chart]:
    """The accuracy of each kind of probe, if there are any: few images first."""
    found = {key for run in runs for key in run.curves if key.startswith('probe/')}
    names = sorted(found, key=lambda key: (key == 'probe/linear', len(key), key))
    return [
        _chart(runs, f'Top-1 accuracy, {name[6:].replace("_", "-")} probe', '%', [Line(name)], scale=100)
        for name in names
    ]


def clipped_by_group(runs: Sequence[Run]) -> list[Chart]:
    """The fraction of units that AGC clipped in each part of the network."""
    return _by_group(runs, 'train/agc_clipped_fraction', '%', scale=100, extent=[0, 100])


def gradients_by_group(runs: Sequence[Run]) -> list[Chart]:
    """The gradient norm of each part of the network, all on one scale."""
    charts = _by_group(runs, 'train/grad_norm', 'L2', log=True)
    values = [y for chart in charts for line in chart['lines'] for y in line['y'] if y]
    extent = [min(values), max(values)] if values else None
    return [{**chart, 'extent': extent} for chart in charts]


def _by_group(runs: Sequence[Run], metric: str, unit: str, **settings: Any) -> list[Chart]:
    found = {key.rsplit('/', 1)[-1] for run in runs for key in run.curves if key.startswith(f'{metric}/')}
    return [
        _chart(
            runs,
            group.replace('stage', 'stage ').replace('_', ' '),
            unit,
            [Line(f'{metric}/{group}')],
            **settings,
        )
        for group in sorted(found, key=_place)
    ]


def _place(group: str) -> tuple[int, str]:
    return {'stem': 0, 'head': 2}.get(group, 1), group


def _held_out(metric: str) -> list[Line]:
    return [
        Line(f'eval/{metric}', 'held out', 'dashed'),
        Line(f'eval_ema/{metric}', 'held out, EMA', 'solid'),
    ]


def _chart(
    runs: Sequence[Run],
    title: str,
    unit: str,
    lines: Sequence[Line],
    *,
    scale: float = 1,
    log: bool = False,
    extent: list[float] | None = None,
) -> Chart:
    epochs = [run.config.train.epochs / run.config.train.steps for run in runs]
    in_epochs = not np.allclose(epochs, epochs[0])
    drawn = []
    for number, run in enumerate(runs):
        for line in lines:
            if line.metric in run.curves:
                points = thin(run.curves[line.metric], _MOST_POINTS)
                factor = epochs[number] if in_epochs else 1
                drawn.append(
                    {
                        'run': number,
                        'name': ', '.join(filter(None, (run.name, line.kind))),
                        'style': line.style,
                        **_points(points, factor, scale),
                    }
                )
    return {
        'title': title,
        'x': 'epoch' if in_epochs else 'step',
        'unit': unit,
        'logY': log,
        'extent': extent,
        'kinds': [[line.kind, line.style] for line in lines if line.kind],
        'lines': drawn,
    }


def _points(curve: Curve, x_scale: float, y_scale: float) -> dict[str, list[float | None]]:
    return {'x': _numbers(curve.steps * x_scale), 'y': _numbers(curve.values * y_scale)}


def _numbers(values: np.ndarray) -> list[float | None]:
    # JSON has no NaN; five digits are more than a screen shows.
    return [float(f'{value:.5g}') if np.isfinite(value) else None for value in values.tolist()]
