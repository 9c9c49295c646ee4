"""Prints parameters and multiply-adds of every variant beside the published figures.

    python scripts/summarize.py

Exit status 1 if a figure differs from the published one, to as many digits as were published.
"""

import argparse
import sys

from nfnets.models.published_sizes import table


def main() -> int:
    argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    ).parse_args()
    all_right = True
    for line, is_right in table():
        print(line, flush=True)
        all_right = all_right and is_right
    return 0 if all_right else 1


if __name__ == '__main__':
    sys.exit(main())
