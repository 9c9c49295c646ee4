"""What pre-training brings where examples are few: Fashion-MNIST to digits, and the other way.

    python scripts/experiments/transfer.py --dir DATA --workdir runs/transfer

An NF-ResNet and its twin with batch normalization (arXiv 2102.06171, table 4, has such pairs) are pre-trained
on one set and fine-tuned on some examples of the other, as many steps as without pre-training. DATA is where
TFDS has prepared `fashion_mnist`. Prints a table of the top-1 on the held-out images in percent, mean and
standard deviation over the seeds, each of which has initial parameters, pre-training and examples of its
own; of the learning rates the one with the better mean. Complete runs are lines of a file in results/ and are
not repeated.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from studies import NEVER
from sweep import Record, Run, Summary, add_flags, records, run_all, summarize

from nfnets.commands.command_line import Parser, run
from nfnets.data.digits import DigitsSource

NETWORKS = {'NF': 'NFResNet', 'batch norm': 'ResNet'}
RATES = (0.1, 0.3)  # For batches of 50.
SEEDS = 3
EXAMPLES = {'digits': (50, 200, 800), 'fashion_mnist': (100, 1000, 10_000)}  # To fine-tune on.
CALLED = {'digits': 'digits', 'fashion_mnist': 'garments'}
_OTHER = {'digits': 'fashion_mnist', 'fashion_mnist': 'digits'}
_COMMON = {
    'data.train_size': 32,
    'data.eval_size': 32,
    'eval.every_steps': NEVER,
    'checkpoint.every_steps': NEVER,
}
_PRE_TRAINING: dict[str, dict[str, Any]] = {
    'digits': {},
    'fashion_mnist': {'train.steps': 2000},
}


def pre_training(data: str, network: str, seed: int) -> Run:
    """The run on all of a set, by the recipe of its config."""
    return Run(f'{data}:{network}', {'seed': seed, **_COMMON, **_PRE_TRAINING[data]})


def fine_tuning(
    data: str, network: str, seed: int, *, examples: int, rate: float, is_pre_trained: bool
) -> Run:
    """200 steps on some examples of a set, from new parameters or from those of a run on the other set."""
    settings = {
        'seed': seed,
        **_COMMON,
        **_examples(data, examples, seed),
        'train.batch_size': 50,
        'train.steps': 200,
        'optimizer.learning_rate': rate,
        'optimizer.warmup_steps': 20.0,
    }
    start = pre_training(_OTHER[data], network, seed) if is_pre_trained else None
    return Run(f'{data}:{network}', settings, start)


def _examples(data: str, examples: int, seed: int) -> dict[str, str]:
    if data == 'digits':
        return {'data.source': 'folder', 'data.train_split': f'train-{examples}-{seed}'}
    return {'data.train_split': f'train[{seed * examples}:{(seed + 1) * examples}]'}


def of_seeds(data: str, label: str, examples: int, rate: float, is_pre_trained: bool) -> list[Run]:
    """One cell of the table at one learning rate, a run for each seed."""
    return [
        fine_tuning(
            data,
            NETWORKS[label],
            seed,
            examples=examples,
            rate=rate,
            is_pre_trained=is_pre_trained,
        )
        for seed in range(SEEDS)
    ]


def all_runs() -> list[Run]:
    """All runs but those of pre-training: a rate after the other, and of each a whole table seed by seed."""
    runs: list[Run] = []
    for rate in RATES:
        cells = [of_seeds(*row, rate, is_pre_trained) for row in _rows() for is_pre_trained in (False, True)]
        runs += [each for seed in zip(*cells, strict=True) for each in seed]
    return runs


def _rows() -> Iterable[tuple[str, str, int]]:
    return [
        (data, label, examples)
        for data, counts in EXAMPLES.items()
        for label in NETWORKS
        for examples in counts
    ]


def table(there: dict[str, Record]) -> str:
    """A Markdown table of the records that there are."""
    lines = ['| to | examples | network | new parameters | pre-trained on the other |', '|---' * 5 + '|']
    for data, label, examples in _rows():
        cells = [str(_best(data, label, examples, is_pre_trained, there)) for is_pre_trained in (False, True)]
        lines.append(f'| {CALLED[data]} | {examples:,} | {label} | ' + ' | '.join(cells) + ' |')
    return '\n'.join(lines)


def _best(data: str, label: str, examples: int, is_pre_trained: bool, there: dict[str, Record]) -> Summary:
    summaries = [summarize(of_seeds(data, label, examples, rate, is_pre_trained), there) for rate in RATES]
    return max(summaries, key=lambda summary: (summary.complete, summary.mean))


def write_digits(directory: Path) -> None:
    """Writes the digits as a folder of images: all to evaluate on, and for each seed some to train on.

    Each seed draws its own, as many of each class; the fewer are among the more.
    """
    evaluation = DigitsSource('eval')
    _write(evaluation, range(len(evaluation)), directory / 'eval')
    source = DigitsSource('train')
    labels = np.array([source.read(index)[1] for index in range(len(source))])
    for seed in range(SEEDS):
        rng = np.random.default_rng(seed)
        drawn = [rng.permutation(np.flatnonzero(labels == label)) for label in range(len(source.class_names))]
        for examples in EXAMPLES['digits']:
            chosen = np.concatenate([indices[: examples // len(drawn)] for indices in drawn])
            _write(source, chosen.tolist(), directory / f'train-{examples}-{seed}')


def _write(source: DigitsSource, indices: Iterable[int], directory: Path) -> None:
    for index in indices:
        encoded, label = source.read(index)
        path = directory / source.class_names[label] / f'{index}.png'
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encoded)


def main(argv: Sequence[str]) -> None:
    """Does the runs that are lacking, and prints the table."""
    parser = Parser(__doc__)
    parser.add_argument('--dir', required=True, help='data.dir of Fashion-MNIST')
    add_flags(parser)
    arguments = parser.parse_args(argv)
    if not arguments.only_table:
        digits = arguments.workdir / 'digits'
        write_digits(digits)
        data_dirs = {'digits': str(digits), 'fashion_mnist': arguments.dir}
        run_all(
            all_runs(), arguments.results / 'transfer.jsonl', arguments.workdir, arguments.jobs, data_dirs
        )
    print(table(records(arguments.results)))


if __name__ == '__main__':
    run(main)
