"""Prints parameters and multiply-adds of every variant beside the published figures.

    python scripts/summarize.py

Exit status 1 if a figure differs from the published one, to as many digits as were published. Of F4+ the
paper and the code released with it describe different networks: this is the released one, and held to it.
"""

import argparse
import sys
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # Runs from a clone, not installed.

from nfnets.cost import Cost, network_cost
from nfnets.variants import VARIANTS


class Published(NamedTuple):
    """Millions of parameters and billions of multiply-adds at the test size, with the digits published.

    Attributes:
      parameters: '' if there is no figure.
      multiply_adds: the same.
      differs: whether the paper's network is known to be another; then `RELEASED` counts.
    """

    parameters: str
    multiply_adds: str
    differs: bool = False


# As printed in arXiv 2102.06171.
PAPER = {
    'F0': Published('71.5', '12.38'),
    'F1': Published('132.6', '35.54'),
    'F2': Published('193.8', '62.59'),
    'F3': Published('254.9', '114.76'),
    'F4': Published('316.1', '215.24'),
    'F5': Published('377.2', '289.76'),
    'F6': Published('438.4', '377.28'),
    'F4+': Published('527', '367', differs=True),
}
# What the code released with the paper gives, where the paper prints nothing or another network.
RELEASED = {
    'F7': Published('499.504088', ''),
    'F4+': Published('524.954484', '333.4'),
}


def agrees(cost: Cost, published: Published) -> bool:
    """Whether counts, rounded as the published figures are, are those figures."""
    pairs = (
        (cost.parameters / 1e6, published.parameters),
        (cost.multiply_adds / 1e9, published.multiply_adds),
    )
    return all(f'{value:.{len(text.partition(".")[2])}f}' == text for value, text in pairs if text)


def verdict(name: str, cost: Cost) -> tuple[str, bool]:
    """What to say of a variant's counts, and whether they are right."""
    if name not in PAPER and name not in RELEASED:
        return 'not published', True
    right = all(
        agrees(cost, table[name]) for table in (PAPER, RELEASED) if name in table and not table[name].differs
    )
    if not right:
        return 'DIFFERS', False
    if name in PAPER and PAPER[name].differs:
        return 'agrees with released code, not with the paper', True
    return 'agrees' if name in PAPER else 'agrees with released code', True


def row(name: str) -> tuple[str, bool]:
    """A line of the table, and whether its counts are right."""
    variant = VARIANTS[name]
    train, test = (network_cost(name, size) for size in (variant.train_size, variant.eval_size))
    text, right = verdict(name, test)
    published = PAPER.get(name) or RELEASED.get(name) or Published('', '')
    line = (
        f'{name:4} {test.tensors:>7,} {test.parameters:>12,}'
        f' {variant.train_size:>5} {train.multiply_adds:>15,}'
        f' {variant.eval_size:>5} {test.multiply_adds:>15,}'
        f'  {published.parameters or "-":>10} {published.multiply_adds or "-":>8}  {text}'
    )
    return line, right


def main() -> int:
    argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    ).parse_args()
    print(f'{"":25} {"train":>21} {"test":>21}  {"published":>19}')
    print(f'{"":4} {"tensors":>7} {"parameters":>12}', end=' ')
    print(f'{"px":>5} {"multiply-adds":>15} {"px":>5} {"multiply-adds":>15}  {"M params":>10} {"G madds":>8}')
    all_right = True
    for name in VARIANTS:
        line, right = row(name)
        print(line, flush=True)
        all_right = all_right and right
    return 0 if all_right else 1


if __name__ == '__main__':
    sys.exit(main())
