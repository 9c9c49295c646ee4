"""Trains and evaluates a network.

    python scripts/train.py --config=configs/imagenet.py:F3 --workdir=DIR --config.train.batch_size=1024

Any setting of configs/default.py can be given as --config.GROUP.NAME=VALUE. The same command goes on with a
run that was stopped.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from absl import flags
from ml_collections import config_flags

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # Runs from a clone, not installed.

from configs import default
from nfnets import cli, host

_CONFIG = config_flags.DEFINE_config_file('config', None, 'Config file, as FILE or FILE:VARIANT.')
_WORKDIR = flags.DEFINE_string('workdir', None, 'Directory for checkpoints and metrics.', required=True)
flags.mark_flag_as_required('config')


def main(argv: Sequence[str]) -> None:
    del argv
    host.keep_compiled()
    from nfnets.train import train_and_evaluate  # Late: cli.run may start the process anew before.

    train_and_evaluate(_CONFIG.value, Path(_WORKDIR.value))


if __name__ == '__main__':
    cli.run(main, default.get_config())
