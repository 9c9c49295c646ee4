"""The paper's ablations on scikit-learn's handwritten digits, with networks small enough for one machine.

    python scripts/experiments/ablate.py agc --workdir runs/ablate --plot docs/agc.png
    python scripts/experiments/ablate.py layers --workdir runs/ablate
    python scripts/experiments/ablate.py global --workdir runs/ablate
    python scripts/experiments/ablate.py ladder --workdir runs/ablate

Small NF-ResNets of configs/digits.py:NFResNet, and twins with batch normalization, are trained for the same
number of epochs at a learning rate that grows with the batch, as in arXiv 2102.06171, section 4.1: `agc` over
batch sizes and clipping thresholds (figure 2), `layers` leaves parts of the network unclipped, `global` clips
the norm of all gradients together instead, or scales updates as LARS does. `ladder` trains small NFNets on
the rungs of configs/imagenet_ladder.py (table 2). Prints a table of the top-1 on the 360 held-out images in
percent, mean and standard deviation over the seeds. Complete runs are not repeated: the
same command resumes a sweep.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from matplotlib.figure import Figure
from sweep import Run, Summary, run_all, summarize

from nfnets.commands.command_line import Parser, run
from nfnets.configs import imagenet_ladder

BATCHES = (64, 256, 1024)
LARGE_BATCHES = (256, 1024)
CLIPPINGS = (0.01, 0.02, 0.04, 0.08, 0.16)
CLIPPING = 0.04  # Where it is not what changes.
NORMS = (0.25, 1.0, 4.0)  # Of all gradients together.
TRUSTS = (0.002, 0.02)  # Of LARS.
WIDTHS = {'default': (64, 128, 256, 512), 'modified': (64, 128, 384, 384)}  # A quarter of the paper's.
EXAMPLES = 1437
NEVER = 1_000_000  # Steps between evaluations and checkpoints: there is one at the end.
CLASSIFIER = '^[^/]+/~/linear/w$'
INF = float('inf')

Setting = tuple[str, Mapping[str, Any]]  # Network, and what differs.


class Study(NamedTuple):
    """The settings that a study compares.

    Attributes:
      batches: sizes.
      settings: by label.
      common: of all runs, by key of the config.
      rate_per_256: learning rate for a batch of 256.
    """

    batches: tuple[int, ...]
    settings: dict[str, Setting]
    common: Mapping[str, Any]
    rate_per_256: float


def clipped(threshold: float, **settings: Any) -> Setting:
    """An NF-ResNet with AGC."""
    return 'NFResNet', {'optimizer.agc_clipping': threshold, **settings}


def skipping(part: str) -> Setting:
    """Settings with AGC on all but the classifier's weight and one more part."""
    return clipped(CLIPPING, **{'optimizer.agc_skip': f'{CLASSIFIER}|{part}'})


def rung(name: str) -> Setting:
    """The settings of a rung of the ladder."""
    settings = imagenet_ladder.settings(name)
    if 'model.widths' in settings:
        settings = {**settings, 'model.widths': WIDTHS['default']}
    return settings.pop('model.name', 'NFNet'), settings


NOT_CLIPPED = clipped(INF)
BATCH_NORM: Setting = ('ResNet', {'optimizer.agc_clipping': INF})
SMALL_RESNETS = {'augment.mixup_alpha': 0.0, 'data.train_size': 16, 'data.eval_size': 16}  # Of 8 x 8 px.
SMALL_NFNETS = {
    'model.widths': WIDTHS['modified'],
    'model.depths': (1, 1, 1, 1),
    'augment.cutmix': True,
    'augment.randaugment_layers': 4,
    'augment.randaugment_magnitude': 1,  # It moves images by up to 10 px; 5 would push them out of the frame.
}
STUDIES = {
    'agc': Study(
        BATCHES,
        {'batch norm': BATCH_NORM, 'no clipping': NOT_CLIPPED}
        | {f'AGC {threshold}': clipped(threshold) for threshold in CLIPPINGS},
        SMALL_RESNETS,
        rate_per_256=0.1,
    ),
    'layers': Study(
        LARGE_BATCHES,
        {
            'all but the classifier': clipped(CLIPPING),
            'the classifier too': clipped(CLIPPING, **{'optimizer.agc_skip': ''}),
            'not the stem': skipping('/initial_conv/'),
            'not the first stage': skipping('/nf_res_block(_1)?/'),
            'not the second stage': skipping('/nf_res_block_[23]/'),
            'nothing': NOT_CLIPPED,
        },
        SMALL_RESNETS,
        rate_per_256=0.1,
    ),
    'global': Study(
        LARGE_BATCHES,
        {f'AGC {CLIPPING}': clipped(CLIPPING), 'no clipping': NOT_CLIPPED}
        | {f'global norm {norm}': clipped(INF, **{'optimizer.max_grad_norm': norm}) for norm in NORMS}
        | {f'LARS {trust}': clipped(INF, **{'optimizer.lars_trust': trust}) for trust in TRUSTS},
        SMALL_RESNETS,
        rate_per_256=0.1,
    ),
    'ladder': Study(
        (64,), {name: rung(name) for name in imagenet_ladder.RUNGS}, SMALL_NFNETS, rate_per_256=0.8
    ),
}


def runs_of(study: Study, label: str, batch: int, seeds: int, epochs: int) -> list[Run]:
    """One run for each seed, at the linearly scaled rate."""
    network, differing = study.settings[label]
    what = '_'.join(f'{key.rpartition(".")[2]}={value}' for key, value in differing.items())
    what = what.translate({ord(c): None for c in '^$|/[]()?+~ '})
    return [
        Run(
            f'{network}_{what}_batch={batch}_epochs={epochs}_seed={seed}',
            network,
            {
                'seed': seed,
                'train.batch_size': batch,
                'train.steps': EXAMPLES * epochs // batch,
                'optimizer.learning_rate': study.rate_per_256 * batch / 256,
                'eval.every_steps': NEVER,
                'checkpoint.every_steps': NEVER,
                **study.common,
                **differing,
            },
        )
        for seed in range(seeds)
    ]


Results = dict[str, dict[int, Summary]]  # By setting and batch.


def table(results: Results) -> str:
    """A Markdown table of the results."""
    batches = next(iter(results.values()))
    lines = [
        '| | ' + ' | '.join(f'batch {batch}' for batch in batches) + ' |',
        '|---' * (len(batches) + 1) + '|',
    ]
    for label, by_batch in results.items():
        lines.append(f'| {label} | ' + ' | '.join(str(summary) for summary in by_batch.values()) + ' |')
    return '\n'.join(lines)


def draw_agc(results: Results, path: Path) -> None:
    """Both panels of the paper's figure 2: accuracy by batch size, and by threshold."""
    figure = Figure(figsize=(10, 4), layout='constrained')
    left, right = figure.subplots(1, 2, sharey=True)
    best = {
        batch: max((results[f'AGC {threshold}'][batch] for threshold in CLIPPINGS), key=lambda s: s.mean)
        for batch in BATCHES
    }
    for label, by_batch in (
        ('batch norm', results['batch norm']),
        ('NF, best AGC', best),
        ('NF, no clipping', results['no clipping']),
    ):
        left.errorbar(
            BATCHES,
            [s.mean for s in by_batch.values()],
            [s.spread for s in by_batch.values()],
            marker='o',
            capsize=3,
            label=label,
        )
    left.set(xscale='log', xticks=BATCHES, xticklabels=BATCHES, xlabel='batch size', ylabel='top-1, %')
    for batch in BATCHES:
        summaries = [results[f'AGC {threshold}'][batch] for threshold in CLIPPINGS]
        right.errorbar(
            CLIPPINGS,
            [s.mean for s in summaries],
            [s.spread for s in summaries],
            marker='o',
            capsize=3,
            label=f'batch {batch}',
        )
    right.set(xscale='log', xticks=CLIPPINGS, xticklabels=CLIPPINGS, xlabel='clipping threshold')
    for axes in (left, right):
        axes.minorticks_off()
        axes.grid(alpha=0.3)
        axes.legend()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=100)


def main(argv: Sequence[str]) -> None:
    """Does the runs of one study and prints its table."""
    parser = Parser(__doc__)
    parser.add_argument('study', choices=STUDIES)
    parser.add_argument('--workdir', type=Path, required=True, help='takes one directory a run')
    parser.add_argument('--seeds', type=int, default=3)
    parser.add_argument('--epochs', type=int, default=20)
    parser.add_argument('--jobs', type=int, default=4, help='runs at a time, of about a gigabyte each')
    parser.add_argument('--plot', type=Path, help='of `agc`: both panels of figure 2')
    arguments = parser.parse_args(argv)
    study = STUDIES[arguments.study]
    runs = {
        label: {
            batch: runs_of(study, label, batch, arguments.seeds, arguments.epochs) for batch in study.batches
        }
        for label in study.settings
    }
    groups = [group for by_batch in runs.values() for group in by_batch.values()]
    by_name = {each.name: each for group in groups for each in group}  # Some are in several groups.
    run_all(by_name.values(), arguments.workdir, arguments.jobs)
    results = {
        label: {batch: summarize(group, arguments.workdir) for batch, group in by_batch.items()}
        for label, by_batch in runs.items()
    }
    print(table(results))
    if arguments.plot and arguments.study == 'agc':
        draw_agc(results, arguments.plot)


if __name__ == '__main__':
    run(main)
