"""Writes a page about one or more runs: curves, augmented images, mistakes, settings, accuracy and speed.

    python scripts/report.py runs/digits runs/other --output report.html
    python scripts/report.py runs/digits --points steps.jsonl

The page is one file that needs no network. Runs may be under way. Points are lines that
scripts/benchmark.py step printed; each is drawn in the paper's figure of accuracy and speed, at the paper's
accuracy of the variant or at the "top_1", from 0 to 1, that was added to the line.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # Runs from a clone, not installed.

from nfnets import cli, host


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('workdir', nargs='+', type=cli.path_argument, help='of a run of scripts/train.py')
    parser.add_argument('--output', type=cli.path_argument, help='default: report.html in the first workdir')
    parser.add_argument('--points', nargs='+', type=cli.path_argument, default=[], metavar='FILE')
    parser.add_argument(
        '--images', type=int, default=2000, help='held-out images that each network is tried on, at most'
    )
    arguments = parser.parse_args()
    if arguments.images < 1:
        parser.error(f'--images={arguments.images}: it must be 1 or more')
    arguments.output = arguments.output or arguments.workdir[0] / 'report.html'
    return arguments


def main() -> None:
    arguments = parse()  # What is mistyped is told before anything is started.
    host.tune()
    from nfnets.files import size
    from nfnets.page.write import write_page  # Late: the process may start anew before.

    write_page(arguments.workdir, arguments.output, points=arguments.points, most_images=arguments.images)
    print(f'{arguments.output} ({size(arguments.output) / 1e3:,.0f} kB)')


if __name__ == '__main__':
    cli.guard(main)
