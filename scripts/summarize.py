"""Prints parameters and multiply-adds of every variant beside the published figures.

    python scripts/summarize.py

Exit status 1 if a figure differs from the published one, to as many digits as were published. Of F4+ the
paper and the code released with it describe different networks; this is the released one, as noted.
"""

import argparse
import sys
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # Runs from a clone, not installed.

from nfnets.cost import count_multiply_adds, count_parameters
from nfnets.variants import VARIANTS


class Published(NamedTuple):
    """Figures in print: millions of parameters, billions of multiply-adds at the test size."""

    parameters: str
    multiply_adds: str
    note: str = ''


# As printed in arXiv 2102.06171.
PUBLISHED = {
    'F0': Published('71.5', '12.38'),
    'F1': Published('132.6', '35.54'),
    'F2': Published('193.8', '62.59'),
    'F3': Published('254.9', '114.76'),
    'F4': Published('316.1', '215.24'),
    'F5': Published('377.2', '289.76'),
    'F6': Published('438.4', '377.28'),
    'F4+': Published('527', '367', 'paper; the released code defines this one'),
}


def agrees(value: int, unit: float, published: str) -> bool:
    """Whether a count, rounded as the published figure is, is that figure."""
    decimals = len(published.partition('.')[2])
    return f'{value / unit:.{decimals}f}' == published


def row(name: str) -> tuple[str, bool]:
    """A line of the table, and whether it agrees with what is published."""
    variant = VARIANTS[name]
    parameters = count_parameters(variant)
    train = count_multiply_adds(variant, variant.train_size)
    test = count_multiply_adds(variant, variant.eval_size)
    line = (
        f'{name:4} {parameters:>12,} {variant.train_size:>5} {train / 1e9:>9.2f}'
        f' {variant.eval_size:>5} {test / 1e9:>9.2f}'
    )
    if name not in PUBLISHED:
        return f'{line}  {"-":>8} {"-":>8}', True
    published = PUBLISHED[name]
    agreed = agrees(parameters, 1e6, published.parameters) and agrees(test, 1e9, published.multiply_adds)
    verdict = 'agrees' if agreed else 'DIFFERS'
    if published.note:
        verdict, agreed = f'differs: {published.note}', True
    return f'{line}  {published.parameters:>8} {published.multiply_adds:>8}  {verdict}', agreed


def main() -> int:
    argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    ).parse_args()
    print(f'{"":17} {"train":>15} {"test":>15}  {"published":>17}')
    print(f'{"":4} {"parameters":>12} {"px":>5} {"G madds":>9} {"px":>5} {"G madds":>9}', end='  ')
    print(f'{"M params":>8} {"G madds":>8}')
    agreed = True
    for name in VARIANTS:
        line, agrees_too = row(name)
        print(line, flush=True)
        agreed = agreed and agrees_too
    return 0 if agreed else 1


if __name__ == '__main__':
    sys.exit(main())
