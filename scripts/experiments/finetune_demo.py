"""Fine-tuning beside training from scratch, on folders of real images, on any machine in some minutes.

    python scripts/experiments/finetune_demo.py --workdir runs/finetune --plot docs/finetune.png

Writes scikit-learn's handwritten digits as two folders of images: 0 to 4, all of them and in all eight
orientations, each of which is a class (40 classes); and 5 to 9 as they are, with a few images a class. A
small NFNet is trained on the first and published as one file. Then, for each seed and with the same number
of steps on the second: fine-tuned from that file (configs/finetune_small.py), trained from scratch by the
same recipe, and from scratch at the learning rate that suits it best. Prints a table and draws the accuracy
on held-out images. Runs that are complete are not repeated.
"""

import io
import json
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from nfnets.commands.command_line import Parser, run
from nfnets.config import get
from nfnets.configs import digits as digits_config
from nfnets.errors import TrainingStopped
from nfnets.run.workdir import METRICS

ROOT = Path(__file__).resolve().parents[2]
FIRST, SECOND = range(5), range(5, 10)
ORIENTATIONS = (None, *Image.Transpose)  # As it is, mirrored, turned, and both: eight.
SCRATCH_RATE = 0.1  # The best of 0.05, 0.1, 0.2 and 0.4, with this recipe else.
KINDS = {
    'fine-tuned': 'tab:blue',
    'from scratch, same recipe': 'tab:gray',
    f'from scratch, learning rate {SCRATCH_RATE}': 'tab:orange',
}
# The network and the images of configs/digits.py, whatever the recipe.
OF_DIGITS = (
    *('model.widths', 'model.depths', 'model.group_width', 'model.dropout_rate'),
    *('model.stochastic_depth_rate', 'data.train_size', 'data.eval_size', 'data.eval_margin'),
    *('data.crop_area', 'data.flip', 'augment.cutmix', 'augment.randaugment_layers', 'train.precision'),
)
DIGITS = {
    **{key: get(digits_config.get_config(), key) for key in OF_DIGITS},
    'augment.mixup_alpha': 0.0,
    'data.source': 'folder',
    'data.eval_split': 'val',
}


def write_first(folder: Path) -> None:
    """FOLDER/train and val/DIGIT_ORIENTATION/*.png: every image of the first digits in every orientation."""
    for split, name in (('train', 'train'), ('eval', 'val')):
        for index, encoded, label in digits(split, FIRST):
            image = Image.open(io.BytesIO(encoded))
            for number, orientation in enumerate(ORIENTATIONS):
                path = folder / name / f'{label}_{number}' / f'{index:04}.png'
                path.parent.mkdir(parents=True, exist_ok=True)
                (image if orientation is None else image.transpose(orientation)).save(path)


def write_second(folder: Path, images_a_class: int) -> None:
    """FOLDER/train and val/DIGIT/*.png: so many training images of each digit, and all held-out ones."""
    for split, name in (('train', 'train'), ('eval', 'val')):
        counts = dict.fromkeys(SECOND, 0)
        for index, encoded, label in digits(split, SECOND):
            counts[label] += 1
            if split == 'eval' or counts[label] <= images_a_class:
                path = folder / name / str(label) / f'{index:04}.png'
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(encoded)


def digits(split: str, classes: range) -> Iterator[tuple[int, bytes, int]]:
    """(index, PNG file, label) of the split's images of some classes."""
    from nfnets.data.digits import DigitsSource  # Late: TensorFlow takes seconds to import.

    source = DigitsSource(split)
    for index in range(len(source)):
        encoded, label = source.read(index)
        if label in classes:
            yield index, encoded, label


def train(config: str, workdir: Path, settings: Mapping[str, object]) -> None:
    """Runs scripts/train.py."""
    flags = [f'--config.{key}={value}' for key, value in {**DIGITS, **settings}.items()]
    command = [sys.executable, 'scripts/train.py', f'--config={config}', f'--workdir={workdir}']
    result = subprocess.run([*command, *flags], cwd=ROOT, capture_output=True, text=True, check=False)
    if result.returncode:
        raise TrainingStopped(f'{workdir}: {result.stderr}')


def accuracy(workdir: Path) -> dict[int, float]:
    """{step: top-1 of the EMA of the parameters on held-out images}."""
    lines = map(json.loads, (workdir / METRICS).read_text().splitlines())
    return {line['step']: line['eval_ema/top_1'] for line in lines if 'eval_ema/top_1' in line}


def publish(workdir: Path) -> Path:
    """Trains on the first folder; writes the EMA of the parameters as one file, and gives its path."""
    first_run, published = workdir / 'first_run', workdir / 'first.npz'
    if not published.exists():
        write_first(workdir / 'first')
        train('configs/digits.py', first_run, {'data.dir': workdir / 'first', 'train.steps': 800})
        print(f'first: {100 * last(accuracy(first_run)):.1f}%', flush=True)
        command = [sys.executable, 'scripts/convert.py', '--ema', str(first_run), str(published)]
        subprocess.run(command, cwd=ROOT, check=True)
    return published


def run_all(workdir: Path, images_a_class: int, epochs: int, seeds: int) -> dict[str, list[dict[int, float]]]:
    """{kind: curve of each seed}."""
    write_second(workdir / 'second', images_a_class)
    settings = {'data.dir': workdir / 'second', 'train.epochs': epochs, 'eval.every_epochs': epochs / 12}
    kinds: dict[str, dict[str, object]] = dict(
        zip(
            KINDS,
            ({'init_from': publish(workdir)}, {}, {'optimizer.learning_rate': SCRATCH_RATE}),
            strict=True,
        )
    )
    curves: dict[str, list[dict[int, float]]] = {kind: [] for kind in KINDS}
    for seed in range(seeds):
        for number, (kind, own) in enumerate(kinds.items()):
            run_workdir = workdir / f'{number}_seed{seed}'
            train('configs/finetune_small.py', run_workdir, {**settings, **own, 'seed': seed})
            curves[kind].append(accuracy(run_workdir))
            print(f'seed {seed}, {kind}: {100 * last(curves[kind][-1]):.1f}%', flush=True)
    return curves


def last(curve: dict[int, float]) -> float:
    """The accuracy at the end."""
    return curve[max(curve)]


def draw(curves: dict[str, list[dict[int, float]]], path: Path, title: str) -> None:
    """Every seed's curve thin, and their mean thick."""
    figure = Figure(figsize=(7, 4.2), layout='constrained')
    axes = figure.subplots()
    for (kind, color), runs in zip(KINDS.items(), curves.values(), strict=True):
        steps = list(runs[0])
        values = 100 * np.array([list(run.values()) for run in runs])
        axes.plot(steps, values.T, color=color, linewidth=0.7, alpha=0.5)
        axes.plot(steps, values.mean(axis=0), color=color, linewidth=2.5, marker='o', label=kind)
    axes.set(xlabel='step', ylabel='top-1 on held-out images, %', ylim=(0, 102), title=title)
    axes.grid(alpha=0.3)
    axes.legend()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130)


def main(argv: Sequence[str]) -> None:
    """Trains all networks, draws the plot and prints the table."""
    parser = Parser(__doc__)
    parser.add_argument('--workdir', type=Path, default=Path('runs/finetune'))
    parser.add_argument('--plot', type=Path, default=Path('docs/finetune.png'))
    parser.add_argument('--images', type=int, default=5, help='training images of each of the digits 5 to 9')
    parser.add_argument('--epochs', type=int, default=60, help='passes over the second folder')
    parser.add_argument('--seeds', type=int, default=3)
    arguments = parser.parse_args(argv)
    workdir = arguments.workdir.absolute()
    curves = run_all(workdir, arguments.images, arguments.epochs, arguments.seeds)
    held_out = len(list((workdir / 'second' / 'val').rglob('*.png')))
    title = f'Digits 5 to 9, {arguments.images} images of each; {held_out} held out; {arguments.seeds} seeds'
    draw(curves, arguments.plot, title)
    print('| | ' + ' | '.join(f'seed {seed}' for seed in range(arguments.seeds)) + ' | mean |')
    print('|---' * (arguments.seeds + 2) + '|')
    for kind, runs in curves.items():
        final = [100 * last(curve) for curve in runs]
        print(f'| {kind} | ' + ' | '.join(f'{value:.1f}' for value in final) + f' | {np.mean(final):.1f} |')


if __name__ == '__main__':
    run(main)
