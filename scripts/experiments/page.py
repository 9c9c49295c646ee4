"""Puts what results/ holds into README.md and docs/, between the marks that name it.

    python scripts/experiments/page.py            # writes
    python scripts/experiments/page.py --check    # exit status 1 if a document is behind

A mark is a line `<!-- study: fashion_mnist agc -->`, for the table of a study of `ablate.py`,
`<!-- transfer -->`, for that of `transfer.py`, `<!-- backbones -->` and `<!-- speed -->` alike, or
`<!-- runs -->`, for those that `record.py` recorded; what is from there to `<!-- end -->` is replaced.
"""

import re
import sys
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import backbones
import speed
import transfer
from ablate import summarize_all, table
from record import RUNS
from studies import DATA, SEEDS, STUDIES, all_runs
from sweep import CALLED, Record, measures, read, records

from nfnets.commands.command_line import Parser, run
from nfnets.errors import InputError

ROOT = Path(__file__).parents[2]
_MARKED = re.compile(
    r'(<!-- (study|transfer|backbones|speed|runs)(?:: (\S+) (\S+))? -->\n).*?(<!-- end -->)', re.DOTALL
)
# What a recorded run of a config was of, and how to repeat it.
_DATA = {
    'digits': 'digits, 360 held-out images, `make train`',
    'fashion_mnist': 'Fashion-MNIST, 10,000 test images, '
    '[`--config=fashion_mnist`](docs/data.md#fashion-mnist)',
    'scenes': 'garments and digits on photographs, 500 held-out, [Mask R-CNN](docs/detection.md#scenes)',
}


def filled(document: str, results: Path) -> str:
    """A document with the tables of a directory's records between its marks."""
    there, runs = records(results), read(results / RUNS)

    def fill(found: re.Match[str]) -> str:
        begin, kind, data, study, end = found.groups()
        tables = {
            'study': lambda: study_table(data, study, there),
            'transfer': lambda: transfer.table(there),
            'backbones': lambda: backbones.table(there),
            'speed': lambda: speed.table(there),
            'runs': lambda: runs_table(runs),
        }
        return f'{begin}{tables[kind]()}\n{end}'

    return _MARKED.sub(fill, document)


def study_table(data: str, study: str, there: dict[str, Record]) -> str:
    """The table of a study.

    Raises:
      InputError: there is no such data or study.
    """
    if data not in DATA or study not in STUDIES:
        there_are = f'there are {", ".join(STUDIES)} on {", ".join(DATA)}'
        raise InputError(f'<!-- study: {data} {study} --> names no study: {there_are}')
    compared = STUDIES[study](DATA[data])
    return table(summarize_all(compared, all_runs(DATA[data], compared, SEEDS), there))


def runs_table(runs: Sequence[Record]) -> str:
    """A row for each config and machine, with all seeds."""
    rows: dict[tuple[str, str], list[Record]] = defaultdict(list)
    for record in runs:
        rows[record['config'], record['machine']].append(record)
    lines = ['| measured here | machine | result |', '|---|---|---|']
    for config, machine in sorted(rows, key=lambda row: list(_DATA).index(row[0])):
        found = rows[config, machine]
        lines.append(
            f'| {_DATA[config]}{_seeds(found)} | {machine}, {_times(found)} | {_accuracies(found)} |'
        )
    return '\n'.join(lines)


def _seeds(found: Sequence[Record]) -> str:
    seeds = [str(record['settings'].get('seed', 0)) for record in found]
    return f', seeds {", ".join(seeds)}' if len(seeds) > 1 else ''


def _times(found: Sequence[Record]) -> str:
    seconds = sorted(record['seconds'] for record in found)
    unit, name = (60, 'min') if seconds[0] >= 600 else (1, 's')
    least, most = (round(value / unit) for value in (seconds[0], seconds[-1]))
    return f'{least} {name}' if least == most else f'{least} to {most} {name}'


def _accuracies(found: Sequence[Record]) -> str:
    return '; '.join(
        f'{CALLED[name]} {_percents(found, name)}, EMA {_percents(found, f"ema_{name}")}'
        for name in measures(found[0])[:2]
    )


def _percents(found: Sequence[Record], name: str) -> str:
    return ', '.join(f'{100 * record[name]:.2f}' for record in found) + '%'


def main(argv: Sequence[str]) -> None:
    """Fills the documents, or says which are behind."""
    parser = Parser(__doc__)
    parser.add_argument('--check', action='store_true', help='write nothing')
    arguments = parser.parse_args(argv)
    behind = []
    for path in (ROOT / 'README.md', *sorted((ROOT / 'docs').glob('*.md'))):
        text = path.read_text()
        if (new := filled(text, ROOT / 'results')) != text:
            behind.append(path.relative_to(ROOT))
            if not arguments.check:
                path.write_text(new)
    print('\n'.join(map(str, behind)) or 'nothing to change')
    sys.exit(bool(behind) and arguments.check)


if __name__ == '__main__':
    run(main)
