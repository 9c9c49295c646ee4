"""Converts the parameters of an NFNet between the formats that they come in, bit by bit.

    nfnets-convert SOURCE TARGET
    nfnets-convert --ema WORKDIR model.npz       # one safe file with all that its users need
    nfnets-convert released:F0 F0.safetensors

SOURCE is a file released with the paper, a .npz of this project, timm's .safetensors or .pth, or the working
directory of a run; its content decides which. By name, released:F0, timm:dm_nfnet_f0 or hf:OWNER/NAME, it is
downloaded once. TARGET's format follows from its name: .npz is this project's own file, with variant, class
names and preprocessing in it, .safetensors timm's, .pkl the released format, and a name without a suffix a
working directory. --to overrides that.
"""

from collections.abc import Sequence

from nfnets.commands.command_line import Parser, add_checkpoint, path_argument, run
from nfnets.errors import InputError

_SUFFIXES = {'.npz': 'npz', '.safetensors': 'timm', '.pkl': 'released', '': 'workdir'}


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the command; does not return."""
    run(_convert, argv)


def _convert(argv: Sequence[str]) -> None:
    parser = Parser(__doc__)
    add_checkpoint(parser, 'source')
    parser.add_argument('target', type=path_argument, help='file or directory to write; must not exist')
    parser.add_argument('--to', choices=_SUFFIXES.values(), help='format of the target, whatever its suffix')
    arguments = parser.parse_args(argv)
    source, target = arguments.source, arguments.target
    form = arguments.to or _SUFFIXES.get(target.suffix)
    if form is None:
        suffixes = ', '.join(filter(None, _SUFFIXES))
        raise InputError(f'the format of {target} is not clear: give one of {suffixes} or none, or --to')
    if target.exists() and not (form == 'workdir' and target.is_dir()):
        raise InputError(f'{target} exists already: remove it first, or give another name')
    from nfnets.weights.fit import architecture
    from nfnets.weights.load import load_checkpoint
    from nfnets.weights.save import save_checkpoint

    weights = load_checkpoint(source)
    params, about = weights.choose(arguments.ema)
    if form == 'workdir':
        from nfnets.configs import default
        from nfnets.inference.convert import write_workdir  # Late: Orbax takes a while to import.

        write_workdir(target, params, about, default.get_config())
    else:
        save_checkpoint(target, form, params, about)
    print(f'{source} ({weights.kind}): {architecture(params)} -> {target} ({form})')
