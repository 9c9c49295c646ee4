"""Evaluates checkpoints: a JSON object for each, and for several a table beside the published accuracies.

    nfnets-evaluate --checkpoint=RUN --ema
    nfnets-evaluate --checkpoint=F0_haiku.npz --config.data.dir=DIR
    nfnets-evaluate --checkpoint=F0.npz --checkpoint=F1.npz --config.data.dir=DIR

A checkpoint is a file released with the paper, a .npz of this project, timm's .safetensors or .pth, or the
working directory of a run, of which --ema takes the EMA of the parameters. It knows the network and how to
preprocess images, and a run its data; a file is evaluated on ImageNet. --config names other data, and a
single checkpoint must then fit its network. What is given as --config.GROUP.NAME=VALUE overrides the
checkpoint: --config.data.eval_style=timm preprocesses as for timm's published figures.
"""

import json
from collections.abc import Sequence
from typing import Any

from etils import epath

from nfnets import host
from nfnets.commands import config_flags
from nfnets.commands.command_line import path_argument, run
from nfnets.commands.config_help import ConfigParser
from nfnets.models.published import ACCURACY, TIMM_ACCURACY


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the command; does not return."""
    run(_evaluate, argv)


def _evaluate(argv: Sequence[str]) -> None:
    parser = ConfigParser(__doc__)
    parser.add_argument(
        '--checkpoint',
        type=path_argument,
        action='append',
        required=True,
        metavar='PATH',
        help='file or working directory; may be given several times',
    )
    parser.add_argument(
        '--ema', action='store_true', help='of a working directory, evaluate the EMA of the parameters'
    )
    given, arguments = config_flags.parse(parser, argv, fallback='default')
    host.tune()
    import jax

    from nfnets.inference.score import config_of, score  # Late: TensorFlow takes seconds to import.
    from nfnets.weights.load import load_checkpoint

    host.keep_compiled()
    several = len(arguments.checkpoint) > 1
    results = []
    for path in arguments.checkpoint:
        weights = load_checkpoint(path)
        config = config_of(
            weights,
            given.config,
            given.overrides,
            is_given=given.has_file,
            keeps_network=given.has_file and not several,
        )
        results.append(score(config, weights, arguments.ema))
        if jax.process_index() == 0:
            print(json.dumps(results[-1]), flush=True)
    if several and jax.process_index() == 0:
        print(table(results))


def table(results: Sequence[dict[str, Any]]) -> str:
    """Markdown: what was measured beside what was published."""
    lines = [
        '| checkpoint | variant | style, px | top-1 | top-5 | paper top-1 | top-5 | timm top-1 | top-5 |',
        '|---|---|---|---|---|---|---|---|---|',
    ]
    for result in results:
        variant, preprocessing = result['variant'], result['preprocessing']
        cells = [
            epath.Path(result['checkpoint']).name,
            variant or 'own',
            f'{preprocessing["style"]}, {preprocessing["size"]}',
            *(f'{100 * result[key]:.2f}' for key in ('top_1', 'top_5')),
            *(f'{value:.1f}' for value in ACCURACY.get(variant, ())),
            *(f'{value:.2f}' for value in TIMM_ACCURACY.get(variant, ())),
        ]
        cells += ['-'] * (9 - len(cells))
        lines.append(f'| {" | ".join(cells)} |')
    return '\n'.join(lines)
