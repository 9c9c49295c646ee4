"""Overview of runs in one table: network, progress, accuracy, speed."""

import math
from collections.abc import Sequence

from nfnets import build
from nfnets.config import network_name
from nfnets.html_report.html import Element, element, table
from nfnets.html_report.sections import note, section, swatch
from nfnets.run.logged import Run, are_on_same_data, data_name

# What counts most, by task.
_RESULTS = {
    'classification': {
        'top-1 held out': 'eval/top_1',
        'top-1 EMA': 'eval_ema/top_1',
    },
    'detection': {
        'box AP held out': 'eval/box_ap',
        'box AP EMA': 'eval_ema/box_ap',
        'mask AP EMA': 'eval_ema/mask_ap',
    },
}
_NOTE = (
    'Accuracy, average precision and loss are of the newest evaluation, with the parameters and with their '
    'EMA. Images/s and the fraction of the time that training waited for input are medians over the logged '
    'steps.'
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
    rows = [_row(run, number, runs) for number, run in enumerate(runs)]
    cells = table(list(rows[0]), [list(row.values()) for row in rows], stacks=True, class_='overview')
    return section('Runs', cells, element('p', _NOTE), *notes)


def _row(run: Run, number: int, runs: Sequence[Run]) -> dict[str, Element | str]:
    """Cells by column; what counts most comes first, as a wide table may end outside of the window."""
    tasks = {each.config.task for each in runs}
    results = {name: key for task, keys in _RESULTS.items() if task in tasks for name, key in keys.items()}
    loss = {'loss EMA': _number(run.last('eval_ema/loss'), '.4f')} if 'classification' in tasks else {}
    return {
        'run': element('span', swatch(number), run.name),
        **{name: _percent(run.last(key)) for name, key in results.items()},
        **loss,
        'steps': f'{run.step:,} of {run.config.train.steps:,}',
        'images/s': _rate(run.median('images_per_second')),
        'waiting for input': _percent(run.median('time/input'), digits=1),
        'network': network_name(run.config),
        'parameters': f'{build.num_parameters(run.config):,}',
        'data': data_name(run) or run.config.data.source,
    }


def _percent(fraction: float | None, digits: int = 2) -> str:
    return _number(None if fraction is None else 100 * fraction, f'.{digits}f', '%')


def _rate(value: float | None) -> str:
    return _number(value, ',.0f' if value is not None and value >= 100 else '.3g')


def _number(value: float | None, form: str, unit: str = '') -> str:
    if value is None:
        return '-'
    return f'{value:{form}}{unit}' if math.isfinite(value) else 'not finite'
