"""The paper's ablations on Fashion-MNIST or handwritten digits, with networks small enough for one machine.

    python scripts/experiments/ablate.py agc --data fashion_mnist --dir DATA --workdir runs/ablate
    python scripts/experiments/ablate.py agc --data digits --workdir runs/ablate --plot docs/agc.png
    python scripts/experiments/ablate.py layers --data digits --workdir runs/ablate
    python scripts/experiments/ablate.py stem --data digits --workdir runs/ablate
    python scripts/experiments/ablate.py rivals --data digits --workdir runs/ablate
    python scripts/experiments/ablate.py ladder --data digits --workdir runs/ablate
    python scripts/experiments/ablate.py twin --data digits --workdir runs/ablate
    python scripts/experiments/ablate.py recipe --data fashion_mnist --dir DATA --workdir runs/ablate

Small NF-ResNets, and twins with batch normalization, are trained for the same number of epochs at a learning
rate that grows with the batch, as in arXiv 2102.06171, section 4.1: `agc` over batch sizes and clipping
thresholds (figure 2), `layers` leaves parts of the network unclipped, `stem` parts of its stem, `rivals`
clips the norm of all gradients together instead, or scales updates as LARS does. `ladder` trains small NFNets
on the rungs of configs/imagenet_ladder.py (table 2), `twin` its last one, with batch normalization, longer
and slower; `recipe` an NFNet with SAM, with stochastic depth, and at another size than it is tested at.
Prints a table of the top-1 on the held-out images in percent, mean and standard deviation over the seeds.
Each complete run is a line of a file in results/ and is not repeated: the same command resumes a sweep.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from studies import CLIPPINGS, DATA, SEEDS, STUDIES, Data, Runs, Study, all_runs
from sweep import Record, Summary, add_flags, records, run_all, summarize

from nfnets.commands.command_line import Parser, run

Results = dict[str, dict[str, Summary]]  # By setting, and by what stands above its column.


def summarize_all(study: Study, runs: Runs, there: dict[str, Record]) -> Results:
    """Every setting at every batch, of the records that there are."""
    return {
        label: {
            f'batch {batch}{what}': summarize(group, there, measure=measure)
            for batch, group in by_batch.items()
            for what, measure in study.measures.items()
        }
        for label, by_batch in runs.items()
    }


def table(results: Results) -> str:
    """A Markdown table of the results."""
    heads = next(iter(results.values()))
    lines = ['| | ' + ' | '.join(heads) + ' |', '|---' * (len(heads) + 1) + '|']
    for label, summaries in results.items():
        lines.append(f'| {label} | ' + ' | '.join(str(summary) for summary in summaries.values()) + ' |')
    return '\n'.join(lines)


def draw_agc(results: Results, data: Data, path: Path) -> None:
    """Both panels of the paper's figure 2: accuracy by batch size, and by threshold."""
    figure = Figure(figsize=(10, 4), layout='constrained')
    left, right = figure.subplots(1, 2, sharey=True)
    columns = [f'batch {batch}' for batch in data.batches]
    best = {
        column: max((results[f'AGC {threshold}'][column] for threshold in CLIPPINGS), key=_mean)
        for column in columns
    }
    for label, summaries in (
        ('batch norm', results['batch norm']),
        ('NF, best AGC', best),
        ('NF, no clipping', results['no clipping']),
    ):
        _draw(left, data.batches, [summaries[column] for column in columns], label)
    left.set(xscale='log', xticks=data.batches, xticklabels=data.batches, xlabel='batch size')
    left.set(ylabel='top-1, %')
    for column in columns:
        by_threshold = [results[f'AGC {threshold}'][column] for threshold in CLIPPINGS]
        _draw(right, CLIPPINGS, by_threshold, column)
    right.set(xscale='log', xticks=CLIPPINGS, xticklabels=CLIPPINGS, xlabel='clipping threshold')
    for axes in (left, right):
        axes.minorticks_off()
        axes.grid(alpha=0.3)
        axes.legend()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=100)


def _mean(summary: Summary) -> float:
    return summary.mean


def _draw(axes: Any, places: Sequence[float], summaries: Sequence[Summary], label: str) -> None:
    means, spreads = [s.mean for s in summaries], [s.spread for s in summaries]
    axes.errorbar(places, means, spreads, marker='o', capsize=3, label=label)


def main(argv: Sequence[str]) -> None:
    """Does the runs of one study and prints its table."""
    parser = Parser(__doc__)
    parser.add_argument('study', choices=STUDIES)
    parser.add_argument('--data', choices=DATA, default='fashion_mnist')
    parser.add_argument('--dir', help='data.dir of Fashion-MNIST')
    add_flags(parser)
    parser.add_argument('--seeds', type=int, default=SEEDS)
    parser.add_argument('--plot', type=Path, help='of `agc` and `agc_nfnet`: both panels of figure 2')
    arguments = parser.parse_args(argv)
    data = DATA[arguments.data]
    study = STUDIES[arguments.study](data)
    runs = all_runs(data, study, arguments.seeds)
    if not arguments.only_table:
        groups = [group for by_batch in runs.values() for group in by_batch.values()]
        by_seed = [each for seed in zip(*groups, strict=True) for each in seed]  # A whole table first.
        results = arguments.results / f'{arguments.data}_{arguments.study}.jsonl'
        data_dirs = {arguments.data: arguments.dir}
        run_all(by_seed, results, arguments.workdir, arguments.jobs, data_dirs)
    summaries = summarize_all(study, runs, records(arguments.results))
    print(table(summaries))
    if arguments.plot and arguments.study.startswith('agc'):
        draw_agc(summaries, data, arguments.plot)


if __name__ == '__main__':
    run(main)
