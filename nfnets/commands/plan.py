"""Says what training on ImageNet would take, before anything is rented: memory, time, cores for the input.

    nfnets-plan --variant F5 --device v4 --devices 128 --batch 4096

The memory is that of the compiled training step, with model.scan, without and with model.remat. Where libtpu
is installed (pip install 'nfnets[tpu]'), XLA's TPU compiler answers, after minutes and without a TPU;
otherwise XLA's CPU compiler gives an estimate. Answers are kept in ~/.cache/nfnets for the next time.
"""

import json
import math
from collections.abc import Sequence

from nfnets.commands.command_line import Parser, run
from nfnets.errors import InputError
from nfnets.models.variants import NORMALIZER_FREE, get_variant
from nfnets.planning.tpus import DEVICES


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the command; does not return."""
    run(_plan, argv)


def _plan(argv: Sequence[str]) -> None:
    parser = Parser(__doc__)
    parser.add_argument('--variant', required=True, help=f'one of {", ".join(NORMALIZER_FREE)}')
    parser.add_argument('--device', required=True, help=f'kind of TPU, one of {", ".join(DEVICES)}')
    parser.add_argument('--devices', type=int, required=True, help='how many, as JAX counts them')
    parser.add_argument('--batch', type=int, default=4096, help='images of a step, over all devices')
    parser.add_argument('--accumulate', type=int, default=1, help='train.accumulate_steps')
    parser.add_argument('--sam', action='store_true', help="with the paper's sharpness-aware gradient")
    parser.add_argument(
        '--step-ms', type=float, help='time of a step; estimated from the published ones if not given'
    )
    parser.add_argument(
        '--core-rate', type=float, help='images a second that one core decodes; measured here if not given'
    )
    parser.add_argument('--json', action='store_true', help='print a JSON object')
    arguments = vars(parser.parse_args(argv))
    as_json = arguments.pop('json')
    get_variant(arguments['variant'], NORMALIZER_FREE)
    for name, value in arguments.items():
        if isinstance(value, int | float) and not isinstance(value, bool) and not 0 < value < math.inf:
            raise InputError(f'--{name.replace("_", "-")}={value} must be more than 0 and finite')
    import jax

    from nfnets.planning.plan import Question, plan  # Late: TensorFlow takes seconds to import.
    from nfnets.planning.plan_text import text

    jax.config.update('jax_platforms', 'cpu')  # Nothing runs on an accelerator, if there is one.
    answer = plan(Question(**arguments))
    print(json.dumps(answer) if as_json else text(answer))
