"""Results of evaluation as tables, beside what was published."""

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from etils import epath

from nfnets.evaluation.evaluate import RECALL_AT
from nfnets.models.published import published_accuracy
from nfnets.weights.by_name import is_name

_TOPS = ('top_1', 'top_5')
_OF_SETS = (
    *(f'recall_at_{k}' for k in RECALL_AT),
    'mean_average_precision',
)  # Where images have sets of labels.
_HEAD = (
    *('checkpoint', 'variant', 'set', 'style, px', 'images', 'top-1', 'top-5'),
    *('paper top-1', 'top-5', 'timm top-1', 'top-5'),
)
CSV_COLUMNS = (
    *('checkpoint', 'variant', 'parameters', 'step', 'set', 'size', 'margin', 'style', 'num_examples'),
    *('num_unlabeled', 'loss', *_TOPS),
    *(f'{who}_{top}' for who in ('paper', 'timm') for top in _TOPS),
    *('images_per_second', 'kind', 'sha256', *_OF_SETS),
)


def markdown(results: Sequence[Mapping[str, Any]]) -> str:
    """What was measured beside what was published, %, with what was measured minus it in parentheses."""
    lines = [
        f'| {" | ".join(_HEAD)} |',
        '|---' * len(_HEAD) + '|',
    ]
    for result in results:
        preprocessing = result['preprocessing']
        cells = [
            _short(result['checkpoint']),
            result['variant'] or 'own',
            result['set'] or '-',
            f'{preprocessing["style"]}, {preprocessing["size"]}',
            f'{result["num_examples"]:,}',
            *(f'{100 * result[top]:.2f}' for top in _TOPS),
            *_beside(result),
        ]
        lines.append(f'| {" | ".join(cells)} |')
    return '\n'.join(lines)


def _short(checkpoint: str) -> str:
    """A path without its directory; a name as it is."""
    return checkpoint if is_name(checkpoint) else epath.Path(checkpoint).name


def _beside(result: Mapping[str, Any]) -> Iterator[str]:
    for (_, top), figure in _published(result).items():
        yield '-' if figure is None else f'{figure:g} ({100 * result[top] - figure:+.2f})'


def _published(result: Mapping[str, Any]) -> dict[tuple[str, str], float | None]:
    """By who published it and of what, the figure in %, if there is one."""
    found = published_accuracy(result['variant'], result['set'], result['preprocessing']['size'])
    return {
        (who, top): dict(zip(_TOPS, figures, strict=False)).get(top)
        for who, figures in found.items()
        for top in _TOPS
    }


def with_published(result: Mapping[str, Any]) -> dict[str, Any]:
    """A result with the accuracies published of it, 0..1, as 'paper_top_1' and so on; None: none was."""
    figures = _published(result).items()
    return {**result, **{f'{w}_{top}': None if f is None else round(f / 100, 5) for (w, top), f in figures}}


def csv_rows(rows: Sequence[Sequence[object]]) -> str:
    """Rows of a table as CSV, without the last line's end."""
    file = io.StringIO()
    csv.writer(file, lineterminator='\n').writerows(rows)
    return file.getvalue().removesuffix('\n')


def csv_row(result: Mapping[str, Any]) -> list[object]:
    """The cells of a result under `CSV_COLUMNS`."""
    missing = {'num_unlabeled': 0, **dict.fromkeys(_OF_SETS)}
    flat = {**missing, **with_published(result), **result['preprocessing']}
    return [flat[column] for column in CSV_COLUMNS]
