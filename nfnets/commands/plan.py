"""Says what training would take, before anything is rented: memory, time, reads, cores for the input.

    nfnets-plan --variant F5 --device v4 --devices 128 --batch 4096

is the paper's recipe on ImageNet. Any config, with its settings, can be given instead of --variant:

    nfnets-plan --config=pretrain:F4+ --device v4 --devices 256 --examples 300000000 --classes 18000

The memory is that of the compiled training step, with model.scan, without and with model.remat, of networks
that have them. Where libtpu is installed (pip install 'nfnets[tpu]'), XLA's TPU compiler answers, after
minutes and without a TPU; otherwise XLA's CPU compiler gives an estimate. Answers are kept in
~/.cache/nfnets for the next time.
"""

import json
import math
from collections.abc import Sequence
from typing import Any

from nfnets.commands import config_flags
from nfnets.commands.command_line import Parser, run
from nfnets.commands.config_flags import Given
from nfnets.data.imagenet import NUM_CLASSES, NUM_TRAIN_IMAGES
from nfnets.errors import InputError
from nfnets.models.variants import NORMALIZER_FREE, get_variant
from nfnets.planning.tpus import DEVICES


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the command; does not return."""
    run(_plan, argv)


def _plan(argv: Sequence[str]) -> None:
    parser = Parser(__doc__)
    parser.add_argument('--variant', help=f"ImageNet's recipe for one of {', '.join(NORMALIZER_FREE)}")
    parser.add_argument('--device', required=True, help=f'kind of TPU, one of {", ".join(DEVICES)}')
    parser.add_argument('--devices', type=int, required=True, help='how many, as JAX counts them')
    parser.add_argument('--batch', type=int, help='images of a step, over all devices; 4096 if not given')
    parser.add_argument('--accumulate', type=int, help='train.accumulate_steps; 1 if not given')
    parser.add_argument('--sam', action='store_true', help="with the paper's sharpness-aware gradient")
    parser.add_argument(
        '--examples',
        type=int,
        default=NUM_TRAIN_IMAGES,
        help=f'number of training images [{NUM_TRAIN_IMAGES}]',
    )
    parser.add_argument('--classes', type=int, default=NUM_CLASSES, help=f'number of classes [{NUM_CLASSES}]')
    parser.add_argument(
        '--step-ms', type=float, help='time of a step; estimated from the published ones if not given'
    )
    parser.add_argument(
        '--core-rate', type=float, help='images a second that one core decodes; measured here if not given'
    )
    parser.add_argument('--json', action='store_true', help='print a JSON object')
    given, parsed = config_flags.parse(parser, argv, fallback='default')
    arguments = vars(parsed)
    as_json = arguments.pop('json')
    arguments |= _recipe(given, arguments)
    for name, value in arguments.items():
        if isinstance(value, int | float) and not isinstance(value, bool) and not 0 < value < math.inf:
            raise InputError(f'--{name.replace("_", "-")}={value} must be more than 0 and finite')
    import jax

    from nfnets.planning.plan import Question, plan  # Late: TensorFlow takes seconds to import.
    from nfnets.planning.plan_text import text

    jax.config.update('jax_platforms', 'cpu')  # Nothing runs on an accelerator, if there is one.
    answer = plan(Question(**{name: value for name, value in arguments.items() if value is not None}))
    print(json.dumps(answer) if as_json else text(answer))


def _recipe(given: Given, arguments: dict[str, Any]) -> dict[str, Any]:
    """The fields of `Question` that follow from the config, or the flags that stand for it."""
    if not given.has_file:
        if given.overrides:
            raise InputError(f'--config.{min(given.overrides)} goes with --config=NAME')
        if arguments['variant'] is None:
            raise InputError('--variant or --config is required')
        get_variant(arguments['variant'], NORMALIZER_FREE)
        return {}
    for name in ('variant', 'batch', 'accumulate', 'sam'):
        if arguments[name]:
            raise InputError(f'--{name} does not go with --config; give settings, --config.GROUP.NAME=VALUE')
    config = given.config
    return {
        'config': config,
        'variant': config.model.variant,
        'batch': config.train.batch_size,
        'accumulate': config.train.accumulate_steps,
        'sam': config.sam.rho > 0,
    }
