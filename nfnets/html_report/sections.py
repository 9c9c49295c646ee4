"""Sections of the page: containers for charts, a legend, and settings."""

from collections.abc import Sequence
from typing import Any

from nfnets.html_report.charts import Chart
from nfnets.html_report.effects import has_effect, is_computed
from nfnets.html_report.html import Child, Element, element, table
from nfnets.run.logged import Run, all_settings, differences

_COLORS = 8  # --run0 .. --run7 in page.css.


def section(title: str, *children: Child | list[Element]) -> Element:
    """A part of the page under a heading."""
    return element('section', element('h2', title), *children)


def note(text: str) -> Element:
    """A note to the reader, set apart from the text."""
    return element('p', text, class_='note')


def places(charts: Sequence[Chart], first: int, size: str = '') -> Element:
    """Places that `charts.js` fills, from chart `first` of the page on; size: '' or 'small'."""
    if not charts:
        return note('Not logged by these runs.')
    figures = [
        element(
            'figure', element('figcaption', chart['title']), element('div', class_='plot'), data_chart=number
        )
        for number, chart in enumerate(charts, first)
    ]
    return element('div', figures, class_=f'charts {size}'.strip())


def legend(runs: Sequence[Run]) -> Element:
    """Which color is which run; each can be switched off."""
    boxes = [
        element(
            'label',
            element('input', type='checkbox', checked='', data_run=number),
            swatch(number),
            run.name,
        )
        for number, run in enumerate(runs)
    ]
    return element('nav', *boxes, class_='legend', aria_label='runs shown in the curves')


def settings(runs: Sequence[Run]) -> Element:
    """The settings that differ between runs, and every setting."""
    names = [run.name for run in runs]
    rows = [[key, *map(_setting, values)] for key, values in all_settings(runs).items()]
    everything = table(('setting', *names), rows, class_='settings')
    return section(
        'Settings', *_different(runs), element('details', element('summary', 'Every setting'), everything)
    )


def _different(runs: Sequence[Run]) -> list[Element]:
    computed, other = _different_rows(runs)
    names = [run.name for run in runs]
    children: list[Element] = []
    if computed:
        children.append(table(('differs', *names), computed, class_='settings'))
    elif len(runs) > 1:
        children.append(element('p', 'No setting of what is computed differs between these runs.'))
    if other:
        children.append(table(('differs, but computes the same', *names), other, class_='settings'))
    return children


def _different_rows(runs: Sequence[Run]) -> tuple[list[list[str]], list[list[str]]]:
    """Rows of settings that differ and matter in some run: those that change results, and all others."""
    each = [run.config for run in runs]
    computed, other = [], []
    for key, values in differences(runs).items():
        effects = [has_effect(key, one) for one in each]
        row = [key, *map(_setting, values, effects)]
        if any(effects) and any(is_computed(key, one) for one in each):
            computed.append(row)
        elif any(effects):
            other.append(row)
    return computed, other


def swatch(number: int) -> Element:
    """The color of a run."""
    return element('i', class_='swatch', style=f'--color:var(--run{number % _COLORS})')


def _setting(value: Any, has_effect: bool = True) -> str:
    if value is None:
        return '-'
    text = f'{value:.6g}' if isinstance(value, float) else str(value)
    return text if has_effect else f'{text} (unused)'
