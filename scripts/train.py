"""Trains and evaluates a network.

    python scripts/train.py --config=configs/imagenet.py:F3 --workdir=DIR --config.train.batch_size=1024

Any setting of configs/default.py can be given as --config.GROUP.NAME=VALUE. The same command resumes a run
that was stopped.

On a TPU slice the same command runs on every host. Elsewhere each of several processes is told which it is:

    python scripts/train.py ... --coordinator=HOST:PORT --num-processes=2 --process-id=0
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from absl import flags
from ml_collections import config_flags

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # Runs from a clone, not installed.

from configs import default
from nfnets import cli, host, pods
from nfnets.files import as_path

_CONFIG = config_flags.DEFINE_config_file('config', None, 'Config file, as FILE or FILE:VARIANT.')
_WORKDIR = flags.DEFINE_string(
    'workdir', None, 'Directory for checkpoints and metrics, or gs://BUCKET/DIR.', required=True
)
_COORDINATOR = flags.DEFINE_string('coordinator', None, 'HOST:PORT of process 0 of several.')
_NUM_PROCESSES = flags.DEFINE_integer('num-processes', None, 'How many processes train together.')
_PROCESS_ID = flags.DEFINE_integer('process-id', None, 'Which of them this is, from 0.')
_PROFILE = flags.DEFINE_integer(
    'profile', 0, 'How many steps to trace, for TensorBoard or XProf.', lower_bound=0
)
flags.mark_flag_as_required('config')


def main(argv: Sequence[str]) -> None:
    del argv
    host.keep_compiled()
    pods.join(_COORDINATOR.value, _NUM_PROCESSES.value, _PROCESS_ID.value)
    from nfnets.train import train_and_evaluate  # Late: cli.run may start the process anew before.

    train_and_evaluate(_CONFIG.value, as_path(_WORKDIR.value), profile_steps=_PROFILE.value)


if __name__ == '__main__':
    cli.run(main, default.get_config())
