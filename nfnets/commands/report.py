"""Writes a page about one or more runs: curves, augmented images, mistakes, settings, accuracy and speed.

    nfnets-report runs/digits runs/other --output report.html
    nfnets-report runs/digits --points steps.jsonl

The page is one file that needs no network. Runs may be under way. Points are lines that
scripts/benchmark.py step printed; each is drawn in the paper's figure of accuracy and speed, at the paper's
accuracy of the variant or at the "top_1", from 0 to 1, that was added to the line.
"""

from collections.abc import Sequence

from nfnets import host
from nfnets.commands.command_line import Parser, path_argument, run
from nfnets.errors import InputError


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the command; does not return."""
    run(_report, argv)


def _report(argv: Sequence[str]) -> None:
    parser = Parser(__doc__)
    parser.add_argument('workdir', nargs='+', type=path_argument, help='working directory of a run')
    parser.add_argument('--output', type=path_argument, help='default: report.html in the first workdir')
    parser.add_argument(
        '--points',
        nargs='+',
        type=path_argument,
        default=[],
        metavar='FILE',
        help='measured points of accuracy and speed to draw, as scripts/benchmark.py step prints them',
    )
    parser.add_argument(
        '--images', type=int, default=2000, help='held-out images that each network is tried on, at most'
    )
    arguments = parser.parse_args(argv)
    if arguments.images < 1:
        raise InputError(f'--images={arguments.images}: it must be 1 or more')
    output = arguments.output or arguments.workdir[0] / 'report.html'
    host.tune()
    from nfnets.files import size
    from nfnets.html_report.write import write_page  # Late: TensorFlow takes seconds to import.

    write_page(arguments.workdir, output, points=arguments.points, most_images=arguments.images)
    print(f'{output} ({size(output) / 1e3:,.0f} kB)')
