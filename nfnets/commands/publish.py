"""Publishes a run: weights, configs, class names and a model card of what the run measured.

    nfnets-publish RUN --to=DIR
    nfnets-publish RUN --to=hf:OWNER/NAME

DIR is then ready to be uploaded. hf:OWNER/NAME is a repository of the Hugging Face hub; it is made, public,
where it does not exist, and needs HF_TOKEN or `hf auth login`. The EMA of the parameters is published;
other commands take the parameters themselves unless --ema is given. This project and timm read it:
nfnets-predict cat.jpg --checkpoint=hf:OWNER/NAME.
"""

from collections.abc import Sequence

from nfnets.commands.command_line import Parser, path_argument, run


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the command; does not return."""
    run(_publish, argv)


def _publish(argv: Sequence[str]) -> None:
    parser = Parser(__doc__)
    parser.add_argument('workdir', type=path_argument, help='working directory of a run')
    parser.add_argument(
        '--to',
        required=True,
        metavar='DIR|hf:OWNER/NAME',
        help='where to publish; a directory must not exist, or be empty',
    )
    parser.add_argument('--raw', action='store_true', help='the parameters themselves instead of their EMA')
    arguments = parser.parse_args(argv)
    from nfnets.publishing.publish import publish  # Late: Orbax takes a while to import.

    print(publish(arguments.workdir, arguments.to, raw=arguments.raw))
