"""The data that curves are drawn of."""

import json

import numpy as np
import pytest
import small_runs

from nfnets.html_report import charts
from nfnets.run.logged import read_runs

LINES = [
    {'step': 20, 'train/loss': 2.0, 'train/grad_norm/stem': 0.5, 'train/grad_norm/head': 4.0}
    | {'train/grad_norm/stage2': 1.0, 'train/grad_norm/stage1': 2.0},
    {'step': 40, 'train/loss': float('nan'), 'train/agc_clipped_fraction/stem': 0.123456789},
    {'step': 40, 'eval/top_1': 0.5, 'eval_ema/top_1': 0.75, 'eval/loss': 1.5},
]


def _lines(chart):
    return {line['name']: (line['x'], line['y'], line['style']) for line in chart['lines']}


def test_runs_share_a_chart_with_what_each_has_logged(tmp_path):
    workdirs = [small_runs.write(tmp_path / 'a', LINES), small_runs.write(tmp_path / 'b', LINES[:1])]
    drawn = {chart['title']: chart for chart in charts.curves(read_runs(workdirs))}
    assert _lines(drawn['Loss']) == {
        'a, training': ([20, 40], [2.0, None], 'faint'),
        'a, held out': ([40], [1.5], 'dashed'),
        'b, training': ([20], [2.0], 'faint'),
    }
    assert _lines(drawn['Top-1 accuracy, held out']) == {
        'a, held out': ([40], [50.0], 'dashed'),
        'a, held out, EMA': ([40], [75.0], 'solid'),
    }
    assert (drawn['Loss']['x'], drawn['Loss']['unit']) == ('step', 'nats')
    assert [line['run'] for line in drawn['Loss']['lines']] == [0, 0, 1]
    json.dumps(list(drawn.values()), allow_nan=False)


def test_the_average_precision_of_sets_has_a_chart_where_it_was_measured(tmp_path):
    measured = {'eval/mean_average_precision': 0.25, 'eval_ema/mean_average_precision': 0.5}
    runs = [small_runs.write(tmp_path / 'a', LINES), small_runs.write(tmp_path / 'b', [LINES[0] | measured])]
    drawn = {chart['title']: chart for chart in charts.curves(read_runs(runs))}
    assert _lines(drawn['Mean average precision, held out']) == {
        'b, held out': ([20], [25.0], 'dashed'),
        'b, held out, EMA': ([20], [50.0], 'solid'),
    }
    alone = [chart['title'] for chart in charts.curves(read_runs(runs[:1]))]
    assert alone == [title for title in drawn if title != 'Mean average precision, held out']


def test_each_probe_has_a_chart(tmp_path):
    names = ('probe/25_shot', 'probe/5_shot', 'probe/linear')
    line = {'step': 20, **dict.fromkeys(names, 0.5)}
    drawn = charts.curves(read_runs([small_runs.write(tmp_path / 'a', [line])]))
    probes = {chart['title']: _lines(chart) for chart in drawn if 'probe' in chart['title']}
    few, more, linear = (f'Top-1 accuracy, {name} probe' for name in ('5-shot', '25-shot', 'linear'))
    assert list(probes) == [few, more, linear]
    assert probes[few] == {'a': ([20], [50.0], 'solid')}


def test_steps_of_other_lengths_are_plotted_over_epochs(tmp_path):
    sizes = {'a': 64, 'b': 128}
    runs = read_runs(
        [small_runs.write(tmp_path / n, LINES, {'train.batch_size': size}) for n, size in sizes.items()]
    )
    loss = charts.curves(runs)[0]
    assert loss['x'] == 'epoch'
    for name, size in sizes.items():
        np.testing.assert_allclose(
            _lines(loss)[f'{name}, training'][0], [20 * size / 1437, 40 * size / 1437], rtol=1e-4
        )


def test_parts_of_the_network_stand_in_its_order_on_one_scale(tmp_path):
    runs = read_runs([small_runs.write(tmp_path / 'a', LINES)])
    norms = charts.gradients_by_group(runs)
    assert [chart['title'] for chart in norms] == ['stem', 'stage 1', 'stage 2', 'head']
    assert [chart['lines'][0]['y'] for chart in norms] == [[0.5], [2.0], [1.0], [4.0]]
    assert all(chart['extent'] == [0.5, 4.0] for chart in norms)
    (clipped,) = charts.clipped_by_group(runs)
    assert clipped['extent'] == [0, 100]
    assert clipped['lines'][0]['y'] == [pytest.approx(12.3456789, rel=1e-4)]


def test_a_run_without_groups_has_no_such_charts(tmp_path):
    runs = read_runs([small_runs.write(tmp_path / 'a', LINES[2:])])
    assert charts.gradients_by_group(runs) == charts.clipped_by_group(runs) == []
