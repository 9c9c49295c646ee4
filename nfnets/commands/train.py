"""Trains and evaluates a network.

    nfnets-train --config=imagenet:F3 --workdir=DIR --config.train.batch_size=1024

Any setting can be given as --config.GROUP.NAME=VALUE. The same command resumes a run that was stopped. On a
TPU slice it runs on every host. In a distributed run elsewhere each process needs to know which one it is:

    nfnets-train ... --coordinator=HOST:PORT --num-processes=2 --process-id=0
"""

from collections.abc import Sequence

from nfnets import host
from nfnets.commands import config_flags
from nfnets.commands.command_line import Offline, add_processes, path_argument, run
from nfnets.commands.config_help import ConfigParser
from nfnets.errors import InputError


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the command; does not return."""
    run(_train, argv)


def _train(argv: Sequence[str]) -> None:
    parser = ConfigParser(__doc__)
    parser.add_argument(
        '--workdir',
        type=path_argument,
        required=True,
        help='directory for checkpoints and metrics, or gs://BUCKET/DIR',
    )
    add_processes(parser)
    parser.add_argument(
        '--profile', type=int, default=0, metavar='STEPS', help='steps to trace, for TensorBoard or XProf'
    )
    parser.add_argument('--offline', action=Offline)
    given, arguments = config_flags.parse(parser, argv)
    if arguments.profile < 0:
        raise InputError(f'--profile={arguments.profile}: it must be 0 or more')
    host.tune()
    from nfnets.run.processes import join
    from nfnets.train import train_and_evaluate  # Late: TensorFlow and Orbax take seconds to import.

    host.keep_compiled()
    join(arguments.coordinator, arguments.num_processes, arguments.process_id)
    train_and_evaluate(given.config, arguments.workdir, profile_steps=arguments.profile)
