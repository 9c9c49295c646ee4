"""Overview of runs in one table: network, progress, accuracy, speed."""

import math
from collections.abc import Sequence

import jax

from nfnets import build
from nfnets.config import network_name
from nfnets.html_report.html import Element, element, table
from nfnets.html_report.runs import Run, are_on_same_data, data_name
from nfnets.html_report.sections import note, section, swatch

# The name and what counts most come first, as a wide table may end outside of the window.
_HEAD = (
    'run',
    'top-1 held out',
    'top-1 EMA',
    'loss EMA',
    'steps',
    'images/s',
    'waiting for input',
    'network',
    'parameters',
    'data',
)
_NOTE = (
    'Accuracy and loss are of the newest evaluation, with the parameters and with their EMA. '
    'Images/s and the fraction of the time that training waited for input are medians over the logged steps.'
)


def overview(runs: Sequence[Run]) -> Element:
    """The table, and notes on what is missing or cannot be compared."""
    notes = [
        note(f'{run.name}: lines of its metrics that cannot be read and are skipped: {run.unread}.')
        for run in runs
        if run.unread
    ]
    notes += [note(f'{run.name} has no metrics yet.') for run in runs if not run.curves]
    if not are_on_same_data(runs):
        notes.append(
            note('These runs are on different data: their losses and accuracies are not of the same images.')
        )
    rows = [_row(run, number) for number, run in enumerate(runs)]
    return section('Runs', table(_HEAD, rows, stacks=True, class_='overview'), element('p', _NOTE), *notes)


def _row(run: Run, number: int) -> list[Element | str]:
    return [
        element('span', swatch(number), run.name),
        _percent(run.last('eval/top_1')),
        _percent(run.last('eval_ema/top_1')),
        _number(run.last('eval_ema/loss'), '.4f'),
        f'{run.step:,} of {run.config.train.steps:,}',
        _rate(run.median('images_per_second')),
        _percent(run.median('time/input'), digits=1),
        network_name(run.config),
        f'{num_parameters(run):,}',
        data_name(run) or run.config.data.source,
    ]


def num_parameters(run: Run) -> int:
    """Number of parameters of a run's network, by their shapes."""
    params, _ = build.variable_shapes(run.config)
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(params))


def _percent(share: float | None, digits: int = 2) -> str:
    return _number(None if share is None else 100 * share, f'.{digits}f', '%')


def _rate(value: float | None) -> str:
    return _number(value, ',.0f' if value is not None and value >= 100 else '.3g')


def _number(value: float | None, form: str, unit: str = '') -> str:
    if value is None:
        return '-'
    return f'{value:{form}}{unit}' if math.isfinite(value) else 'not finite'
