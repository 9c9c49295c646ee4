"""Accuracies in words."""

from collections.abc import Mapping

from nfnets.evaluation.evaluate import Results


def summary(results: Results) -> str:
    """One line for each set of parameters evaluated, and for the probes, for people."""
    return '\n'.join(
        f'  {name + ":":9} {_accuracy(r)}, loss {r["loss"]:.4f} over {r["num_examples"]} images'
        if 'top_1' in r
        else f'  {name + ":":9} ' + ', '.join(f'{key} {100 * value:.2f}%' for key, value in r.items())
        for name, r in results.items()
    )


def _accuracy(result: Mapping[str, float]) -> str:
    shown = {'top-1': 'top_1', 'top-5': 'top_5'}
    if 'mean_average_precision' in result:  # Of sets of labels.
        shown = {
            'mean average precision': 'mean_average_precision',
            'precision at 1': 'top_1',
            'recall at 5': 'recall_at_5',
        }
    return ', '.join(f'{name} {100 * result[key]:.2f}%' for name, key in shown.items())
