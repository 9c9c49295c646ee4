"""Evaluates checkpoints: a JSON object for each result, then, of several, a table beside what was published.

    nfnets-evaluate --checkpoint=RUN --ema
    nfnets-evaluate --checkpoint=released:F0 --config.data.dir=DIR
    nfnets-evaluate --checkpoint=F0.npz --checkpoint=timm:dm_nfnet_f1 --config.data.dir=DIR
    nfnets-evaluate --checkpoint=F0.npz --set=imagenet,real,v2,a,r,sketch --size=192,256 --config.data.dir=DIR

A checkpoint is a file released with the paper, a .npz of this project, timm's .safetensors or .pth, or the
working directory of a run, of which --ema takes the EMA of the parameters. By name it is downloaded once:
released:F0 .. F6, timm:dm_nfnet_f0, timm:nfnet_l0 .., hf:OWNER/NAME. It knows the network and how to
preprocess images, and a run its data; a file is evaluated on ImageNet. --config names other data, and a
single checkpoint must then fit its network. What is given as --config.GROUP.NAME=VALUE overrides the
checkpoint: --config.data.eval_style=timm preprocesses as for timm's published figures.

--set names published test sets that TFDS has prepared in --config.data.dir: ImageNet's validation set, its
ReaL labels (any label of an image is a hit; images without one are skipped), V2 (matched frequency), A and R
(only the logits of their 200 classes are kept), and Sketch.

Where images have sets of labels, top_1 is the precision at 1, and recall_at_3, recall_at_5, recall_at_10 and
mean_average_precision are given, too. The loss is the one that the checkpoint was trained by.

On several hosts the same command on each evaluates together, every image once; process 0 prints.
"""

import argparse
import difflib
import json
from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

from nfnets import host
from nfnets.commands import config_flags
from nfnets.commands.command_line import add_checkpoint, add_processes, path_argument, run, size_argument
from nfnets.commands.config_help import ConfigParser
from nfnets.data.imagenet_sets import SETS, ImageNetSet
from nfnets.errors import InputError

# What flags say that settings say, too.
_SAME = {'set': ('data.source', 'data.name', 'data.eval_split'), 'size': ('data.eval_size',)}


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the command; does not return."""
    run(_evaluate, argv)


def _evaluate(argv: Sequence[str]) -> None:
    given, arguments = config_flags.parse(_parser(), argv, fallback='default')
    for flag, keys in _SAME.items():
        for key in given.overrides.keys() & set(keys) if getattr(arguments, flag) else ():
            raise InputError(f'--{flag} and --config.{key} say the same thing: give one of them')
    host.tune()
    import jax

    from nfnets.inference import tables  # Late: TensorFlow takes seconds to import.
    from nfnets.inference.evaluations import evaluate_all
    from nfnets.inference.predictions import PredictionsFile
    from nfnets.inference.score import Result, config_of
    from nfnets.run.processes import join
    from nfnets.weights.load import Weights

    host.keep_compiled()
    join(arguments.coordinator, arguments.num_processes, arguments.process_id)
    is_printing = jax.process_index() == 0
    keeps_network = given.has_file and len(arguments.checkpoint) == 1

    def config_for(weights: Weights) -> Any:
        return config_of(
            weights, given.config, given.overrides, is_given=given.has_file, keeps_network=keeps_network
        )

    results: list[Result] = []
    with PredictionsFile(arguments.predictions) if arguments.predictions else nullcontext() as predictions:
        for result in evaluate_all(
            arguments.checkpoint,
            config_for,
            sets=arguments.set,
            sizes=arguments.size,
            ema=arguments.ema,
            record=None if predictions is None else predictions.add,
        ):
            if is_printing and arguments.csv:
                head = [] if results else [tables.CSV_COLUMNS]
                print(tables.csv_rows([*head, tables.csv_row(result)]), flush=True)
            elif is_printing:
                print(json.dumps(tables.with_published(result)), flush=True)
            results.append(result)
    if len(results) > 1 and is_printing and not (arguments.csv or arguments.json):
        print(tables.markdown(results))


def _parser() -> ConfigParser:
    parser = ConfigParser(__doc__)
    add_checkpoint(
        parser,
        '--checkpoint',
        help='file, working directory or name; may be given several times',
        action='append',
        required=True,
        metavar='PATH',
    )
    add_processes(parser)
    sets = ', '.join(f'{each.key} ({each.name})' for each in SETS.values())
    parser.add_argument('--set', type=_sets, default=[], metavar='SET,...', help=sets)
    parser.add_argument(
        '--size', type=_sizes, default=[], metavar='PX,...', help="sides of the network's input"
    )
    parser.add_argument(
        '--predictions', type=path_argument, metavar='FILE', help='a new CSV file, with a row for each image'
    )
    forms = parser.add_mutually_exclusive_group()
    forms.add_argument('--json', action='store_true', help='one JSON object a line for each result, no table')
    forms.add_argument('--csv', action='store_true', help='a row for each result, nothing else')
    return parser


def _sets(text: str) -> list[ImageNetSet]:
    """Sets by their keys, or by TFDS's names, with commas between."""
    known = {**SETS, **{each.name: each for each in SETS.values()}}
    for name in text.split(','):
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f'nearest: {near[0]}; ' if near else ''
            raise argparse.ArgumentTypeError(f'there is no {name!r}; {hint}there are {", ".join(SETS)}')
    return list(dict.fromkeys(known[name] for name in text.split(',')))


def _sizes(text: str) -> list[int]:
    """Sizes in px, with commas between."""
    return list(dict.fromkeys(map(size_argument, text.split(','))))
