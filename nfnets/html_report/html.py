"""HTML from functions: what is text is escaped, and what is opened is closed."""

import json
from collections.abc import Iterable, Sequence
from typing import Any
from xml.etree import ElementTree

Element = ElementTree.Element
Child = Element | str


def element(tag: str, *children: Child | Iterable[Child], **attributes: object) -> Element:
    """An element of HTML.

    Args:
      tag: its name.
      *children: elements, texts, and lists of both.
      **attributes: `class_` is class, `data_chart` is data-chart.
    """
    node = Element(tag, {key.rstrip('_').replace('_', '-'): str(value) for key, value in attributes.items()})
    for child in children:
        for one in [child] if isinstance(child, str | Element) else child:
            if not isinstance(one, str):
                node.append(one)
            elif len(node):
                node[-1].tail = (node[-1].tail or '') + one
            else:
                node.text = (node.text or '') + one
    return node


def table(
    head: Sequence[str], rows: Iterable[Sequence[Child]], *, stacks: bool = False, **attributes: object
) -> Element:
    """A table whose first column names the rows.

    Args:
      head: names of the columns.
      rows: their cells.
      stacks: where the screen is narrow, each row becomes a list of its cells, with the columns' names beside
        them (page.css); else the table scrolls there.
      **attributes: as of `element`.
    """

    def cell(value: Child, column: str) -> Element:
        return element('td', value, **({'data_column': column} if stacks else {}))

    cells = [
        element('tr', element('th', row[0], scope='row'), list(map(cell, row[1:], head[1:]))) for row in rows
    ]
    columns = element('tr', [element('th', name, scope='col') for name in head])
    whole = element('table', element('thead', columns), element('tbody', cells), **attributes)
    return scrolling(whole)


def scrolling(wide: Element) -> Element:
    """Lets an element be wider than the screen."""
    return element('div', wide, class_='scrolling')


def json_script(data: Any, identifier: str) -> Element:
    """Data for a script of the page; no text in it can end the element."""
    text = json.dumps(data, allow_nan=False, separators=(',', ':')).replace('<', '\\u003c')
    return element('script', text, type='application/json', id=identifier)


def document(title: str, style: str, script: str, *body: Child | Iterable[Child]) -> str:
    """A whole page that needs nothing else."""
    head = element(
        'head',
        element('meta', charset='utf-8'),
        element('meta', name='viewport', content='width=device-width, initial-scale=1'),
        element('title', title),
        element('style', style),
    )
    root = element('html', head, element('body', *body, element('script', script)), lang='en')
    return '<!DOCTYPE html>\n' + ElementTree.tostring(root, encoding='unicode', method='html') + '\n'
