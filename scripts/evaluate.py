"""Evaluates checkpoints: a JSON object for each, and for several a table beside the published accuracies.

    python scripts/evaluate.py --checkpoint=RUN --ema
    python scripts/evaluate.py --checkpoint=F0_haiku.npz --config.data.dir=DIR
    python scripts/evaluate.py --checkpoint=F0.npz --checkpoint=F1.npz --config.data.dir=DIR

A checkpoint is a file released with the paper, a .npz of this project, timm's .safetensors or .pth, or the
working directory of a run, of which --ema takes the EMA of the parameters. It tells the network and how to
preprocess images, and a run its data; a file is evaluated on ImageNet. --config names other data, and a
single checkpoint must then be of its network. What is given as --config.GROUP.NAME=VALUE is used whatever
the checkpoint tells: --config.data.eval_style=timm preprocesses as for timm's published figures.
"""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
from absl import flags
from etils import epath
from ml_collections import config_flags

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # Runs from a clone, not installed.

from configs import default
from nfnets import cli, host, load_checkpoint

_ROOT = Path(__file__).resolve().parents[1]
_CONFIG = config_flags.DEFINE_config_file(
    'config',
    str(_ROOT / 'configs' / 'default.py'),
    'Config file, as FILE or FILE:VARIANT, that names the data.',
)
_CHECKPOINT = flags.DEFINE_multi_string('checkpoint', None, 'File or working directory.', required=True)
_EMA = flags.DEFINE_bool('ema', False, 'Of a working directory, evaluate the EMA of the parameters.')

# Top-1 and top-5, %: table 5 of the paper (F6 with SAM), and timm's results-imagenet.csv, in timm's style.
PAPER = {
    'F0': (83.6, 96.8),
    'F1': (84.7, 97.1),
    'F2': (85.1, 97.3),
    'F3': (85.7, 97.5),
    'F4': (85.9, 97.6),
    'F5': (86.0, 97.6),
    'F6': (86.5, 97.9),
}
TIMM = {
    'F0': (83.486, 96.568),
    'F1': (84.702, 97.182),
    'F2': (85.194, 97.346),
    'F3': (85.686, 97.570),
    'F4': (85.836, 97.664),
    'F5': (86.098, 97.688),
    'F6': (86.362, 97.896),
}


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
            *(f'{value:.1f}' for value in PAPER.get(variant, ())),
            *(f'{value:.2f}' for value in TIMM.get(variant, ())),
        ]
        cells += ['-'] * (9 - len(cells))
        lines.append(f'| {" | ".join(cells)} |')
    return '\n'.join(lines)


def main(argv: Sequence[str]) -> None:
    del argv
    host.keep_compiled()
    from nfnets.score import config_of, score  # Late: cli.run may start the process anew before.

    overrides = config_flags.get_override_values(flags.FLAGS['config'])
    is_given = cli.is_given('config')
    several = len(_CHECKPOINT.value) > 1
    results = []
    for path in _CHECKPOINT.value:
        weights = load_checkpoint(path)
        config = config_of(
            weights, _CONFIG.value, overrides, is_given=is_given, keeps_network=is_given and not several
        )
        results.append(score(config, weights, _EMA.value))
        if jax.process_index() == 0:
            print(json.dumps(results[-1]), flush=True)
    if several and jax.process_index() == 0:
        print(table(results))


if __name__ == '__main__':
    cli.run(main, default.get_config())
