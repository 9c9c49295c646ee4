"""Sheets of images, and the confusion matrix, as HTML."""

from collections.abc import Sequence

import numpy as np

from nfnets.html_report.html import Element, element, scrolling
from nfnets.html_report.images import TrainingImage, data_uri
from nfnets.html_report.mistakes import Mistake, Predictions, confused_pairs, confusion_matrix, most_mistaken

_MOST_CLASSES = 20  # Of a confusion matrix that can be read.
_MOST_PAIRS = 10
_LEAST = 0.005  # Fraction of a class that rounds to a percent.


def training_sheet(images: Sequence[TrainingImage], count: int, names: Sequence[str]) -> list[Element]:
    """Augmented images with what they count as.

    Args:
      images: to show.
      count: images in the first device's part of the batch.
      names: of the classes, by label.
    """
    cards = [
        _card(
            image.pixels,
            *(element('b', _part(names[k], w)) for k, w in image.labels.items() if w >= _LEAST),
            title=', '.join(names[k] for k in image.labels),
        )
        for image in images
    ]
    text = (
        f'Of the first step, made anew from settings and seed: what the first device sees if its part of '
        f'the batch is {count} images. Percentages are the weights of the classes in the loss, before label '
        'smoothing.'
    )
    return [element('p', text), element('div', *cards, class_='cards')]


def confusion(predictions: Predictions, names: Sequence[str]) -> list[Element]:
    """The confusion matrix, of the most mistaken classes if there are many, and frequent mistakes."""
    shown = most_mistaken(predictions, _MOST_CLASSES)
    matrix = confusion_matrix(predictions, shown)
    of_class = np.maximum(np.bincount(predictions.labels[:, 0], minlength=len(names))[shown], 1)
    head = element(
        'tr',
        element('td'),
        [element('th', element('span', _short(names[k])), scope='col', title=names[k]) for k in shown],
    )
    rows = [
        element(
            'tr',
            element('th', _short(names[label]), scope='row', title=names[label]),
            [_cell(int(count), count / of_class[i], is_own=i == k) for k, count in enumerate(matrix[i])],
        )
        for i, label in enumerate(shown)
    ]
    text = 'Rows: own class. Columns: the class that an image is taken for. Images of each.'
    if len(shown) < len(names):
        text += f' The {len(shown)} of {len(names)} classes with the most mistakes.'
    kind = 'confusion' if all(len(_short(names[k])) < 3 for k in shown) else 'confusion long'
    pairs = confused_pairs(predictions, _MOST_PAIRS)
    frequent = [f'{_short(names[i])} as {_short(names[k])} ({count})' for i, k, count in pairs]
    return [
        element('h4', 'Confusion matrix'),
        element('p', text),
        scrolling(element('table', element('thead', head), element('tbody', rows), class_=kind)),
        element('p', f'Most frequent mistakes: {", ".join(frequent) or "none"}.'),
    ]


def mistakes(worst: Sequence[Mistake], names: Sequence[str]) -> list[Element]:
    """The worst mistakes, with what the network makes of them."""
    if not worst:
        return []
    cards = [
        _card(
            one.pixels,
            element('b', f'is {_joined(one.labels, names)} {_percent(one.own_probability)}'),
            element('span', f'as {_short(names[one.predicted])} {_percent(one.probability)}'),
            title=f'{one.where}: {_joined(one.labels, names)}, taken for {names[one.predicted]}',
        )
        for one in worst
    ]
    text = 'Own class, and the one it is taken for, with their probabilities; the least likely first.'
    return [element('h4', 'Worst mistakes'), element('p', text), element('div', *cards, class_='cards')]


def _card(pixels: np.ndarray, *caption: Element, title: str) -> Element:
    image = element('img', src=data_uri(pixels), alt=title, title=title, loading='lazy')
    return element('figure', image, element('figcaption', *caption), class_='card')


def _cell(count: int, fraction: float, is_own: bool) -> Element:
    # The root, so that a few mistakes can be seen.
    strength = f'--strength:{100 * fraction**0.5:.0f}%'
    kind = 'hit' if is_own else 'miss'
    return element('td', str(count), class_=kind, style=strength) if count else element('td')


def _joined(labels: Sequence[int], names: Sequence[str]) -> str:
    return ' and '.join(_short(names[k]) for k in labels)


def _short(name: str) -> str:
    return name.split(',')[0]


def _part(name: str, fraction: float) -> str:
    return _short(name) if fraction > 1 - _LEAST else f'{_short(name)} {_percent(fraction)}'


def _percent(fraction: float) -> str:
    return f'{100 * fraction:.0f}%'
