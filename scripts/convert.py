"""Converts the parameters of an NFNet between the forms that they come in, bit by bit; publishes a run.

    python scripts/convert.py SOURCE TARGET
    python scripts/convert.py --ema WORKDIR model.npz       # what to publish: one safe file

SOURCE is a file released with the paper, a .npz of this project, timm's .safetensors or .pth, or the working
directory of a run; which of them follows from its content. TARGET's form follows from its name: .npz is this
project's own file, with variant, class names and preprocessing in it, .safetensors timm's, .pkl the released
form, and a name without a suffix a working directory. --to says otherwise.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # Runs from a clone, not installed.

from configs import default
from nfnets import cli
from nfnets.convert import write_workdir
from nfnets.errors import InputError
from nfnets.weights.fit import architecture
from nfnets.weights.load import load_checkpoint
from nfnets.weights.save import FORMS, save_checkpoint

_SUFFIXES = {'.npz': 'npz', '.safetensors': 'timm', '.pkl': 'released', '': 'workdir'}


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('source', type=cli.path_argument)
    parser.add_argument('target', type=cli.path_argument, help='must not exist')
    parser.add_argument(
        '--to', choices=(*FORMS, 'workdir'), help="form of the target, whatever its name's end"
    )
    parser.add_argument('--ema', action='store_true', help="of a working directory, the parameters' average")
    return parser.parse_args()


def main() -> None:
    arguments = parse()
    source, target = arguments.source, arguments.target
    form = arguments.to or _SUFFIXES.get(target.suffix)
    if form is None:
        ends = ', '.join(filter(None, _SUFFIXES))
        raise InputError(f'{target} tells no form by its end: give one of {ends} or none, or --to')
    if target.exists() and not (form == 'workdir' and target.is_dir()):
        raise InputError(f'{target} exists already: remove it first, or give another name')
    weights = load_checkpoint(source)
    params, about = weights.choose(arguments.ema)
    if form == 'workdir':
        write_workdir(target, params, about, default.get_config())
    else:
        save_checkpoint(target, form, params, about)
    print(f'{source} ({weights.kind}): {architecture(params)} -> {target} ({form})')


if __name__ == '__main__':
    cli.guard(main)
