"""Sweeps over small runs: what they are, that they go on, and how their seeds are summed up."""

import concurrent.futures
import importlib
import itertools
import json
import math

import pytest
import training_runs

from nfnets import config as config_lib


@pytest.fixture
def sweep(experiment):
    return experiment('sweep')


@pytest.fixture
def studies(sweep):
    return importlib.import_module('studies')


@pytest.fixture
def ablate(sweep):
    return importlib.import_module('ablate')


def test_the_runs_of_a_study_differ_and_have_valid_configs(studies):
    for (data_name, data), (study_name, make) in itertools.product(
        studies.DATA.items(), studies.STUDIES.items()
    ):
        study = make(data)
        runs = [
            run
            for label, batch in itertools.product(study.settings, study.batches)
            for run in studies.runs_of(data, study, label, batch, seeds=2)
        ]
        assert len({run.key for run in runs}) == len(runs), (data_name, study_name)
        for run in runs:
            config = run.load()
            config_lib.check(config)
            if study_name == 'twin':  # Longer, or slower.
                continue
            if study_name != 'stem':  # Some of it is slower.
                rate = config.optimizer.learning_rate / config.train.batch_size
                assert rate == pytest.approx(study.rate_per_256 / 256)
            seen = config.train.steps * config.train.batch_size
            assert seen == pytest.approx(study.examples * study.epochs, rel=0.04)
            assert config.optimizer.warmup_steps < config.train.steps


def _record(run, top_1):
    return {**json.loads(run.key), 'top_1': top_1, 'diverged': None if top_1 else 'step 3: the loss is nan'}


def test_seeds_are_summed_up_and_those_that_diverged_count_as_chance(sweep):
    runs = [sweep.Run('digits:NFResNet', {'seed': seed}) for seed in range(4)]
    there = {run.key: _record(run, top_1) for run, top_1 in zip(runs[:3], (0.9, 0.8, None), strict=True)}
    summary = sweep.summarize(runs, there, chance=10.0)
    assert (summary.complete, summary.seeds) == (3, 4)
    assert summary.mean == pytest.approx(60.0)
    assert summary.spread == pytest.approx(((30**2 + 20**2 + 50**2) / 3) ** 0.5)
    assert str(summary) == '60.0 ± 35.6 (3 of 4 seeds, 1 diverged)'
    assert str(sweep.summarize(runs[:3], there)) == '60.0 ± 35.6 (1 diverged)'
    assert str(sweep.summarize(runs[:2], there)) == '85.0 ± 5.0'
    assert str(sweep.summarize(runs[:1], there)) == '90.0'  # One has no spread.
    assert str(sweep.summarize(runs[2:3], there)) == 'diverged'
    assert str(sweep.summarize(runs[3:], there)) == ''


def test_records_are_told_apart_by_their_settings_and_a_line_cut_off_is_no_record(sweep, tmp_path):
    runs = [sweep.Run('digits:NFResNet', {'optimizer.agc_clipping': value}) for value in (0.1, math.inf)]
    lines = [json.dumps(_record(run, 0.5)) for run in runs]
    (tmp_path / 'a.jsonl').write_text(lines[0] + '\n')
    (tmp_path / 'b.jsonl').write_text(lines[1][:-5])
    assert sweep.records(tmp_path).keys() == {runs[0].key}
    (tmp_path / 'b.jsonl').write_text(lines[1] + '\n')
    assert sweep.records(tmp_path).keys() == {run.key for run in runs}


class Here:
    """In place of a pool of processes, which would compile for another number of devices."""

    def __init__(self, jobs, mp_context, initializer):
        pass

    def __enter__(self):
        return self

    def __exit__(self, *error):
        pass

    def submit(self, function, *args):
        future = concurrent.futures.Future()
        future.set_result(function(*args))
        return future


def test_a_sweep_runs_what_is_lacking_and_records_what_diverges(sweep, monkeypatch, tmp_path, capfd):
    monkeypatch.setattr(sweep, 'ProcessPoolExecutor', Here)
    diverging = sweep.Run('digits:NFNet', {**training_runs.TINY, 'optimizer.learning_rate': 1e37})
    complete, other = (sweep.Run('digits:NFNet', {**training_runs.TINY, 'seed': seed}) for seed in (1, 2))
    results = tmp_path / 'results' / 'study.jsonl'
    results.parent.mkdir()
    (results.parent / 'earlier.jsonl').write_text(json.dumps(_record(complete, 0.5)) + '\n')
    with training_runs.tracing_once():
        sweep.run_all([diverging, complete, other], results, tmp_path / 'runs', jobs=1)
    lines = [json.loads(line) for line in results.read_text().splitlines()]
    written = {record['settings'].get('seed'): record for record in lines}
    assert written.keys() == {None, 2}
    assert written[None]['top_1'] is None
    assert 'the loss is' in written[None]['diverged']
    there = sweep.records(results.parent)
    assert there[complete.key]['top_1'] == 0.5
    logs = [path.read_text() for path in (tmp_path / 'runs').glob('*/metrics.jsonl')]
    last = json.loads(next(log for log in logs if 'eval/top_1' in log).splitlines()[-1])
    assert there[other.key]['top_1'] == last['eval/top_1']
    printed = capfd.readouterr().err
    assert '2/2' in printed
    assert 'the loss is' in printed


def test_a_run_begins_with_the_parameters_of_another_which_is_repeated_where_its_files_are_gone(
    sweep, monkeypatch, tmp_path
):
    monkeypatch.setattr(sweep, 'ProcessPoolExecutor', Here)
    first = sweep.Run('digits:NFNet', training_runs.TINY)
    second = sweep.Run('digits:NFNet', {**training_runs.TINY, 'optimizer.learning_rate': 1e-30}, first)
    results = tmp_path / 'results' / 'study.jsonl'
    results.parent.mkdir()
    (results.parent / 'earlier.jsonl').write_text(json.dumps(_record(first, 0.5)) + '\n')
    with training_runs.tracing_once():
        sweep.run_all([second], results, tmp_path / 'runs', jobs=1)
    there = sweep.records(results.parent)
    assert there.keys() == {first.key, second.key}
    assert there[second.key]['top_1'] == there[first.key]['ema_top_1'] != 0.5  # It starts from the EMA.
    assert second.key != second._replace(start=None).key
    assert json.loads(results.read_text().splitlines()[-1])['start'] == json.loads(first.key)


def test_a_study_of_the_ema_has_a_column_of_it(ablate, studies):
    data = studies.DATA['digits']
    study = studies.recipe(data)
    runs = studies.all_runs(data, study, seeds=1)
    [run] = runs['plain'][64]
    there = {run.key: {**_record(run, 0.5), 'ema_top_1': 0.75}}
    head, _, row, *_ = ablate.table(ablate.summarize_all(study, runs, there)).splitlines()
    assert head == '| | batch 64 | batch 64, EMA |'
    assert row == '| plain | 50.0 | 75.0 |'


def test_a_study_prints_a_table_and_draws_the_paper_s_figure(ablate, studies, monkeypatch, tmp_path, capsys):
    def pretend(runs, results, workdir, jobs, data_dirs):
        lines = [json.dumps(_record(run, (number + 1) / 100)) + '\n' for number, run in enumerate(runs)]
        results.write_text(''.join(lines))

    monkeypatch.setattr(ablate, 'run_all', pretend)
    plot = tmp_path / 'plots' / 'agc.png'
    words = ['agc', '--data', 'digits', '--workdir', str(tmp_path), '--results', str(tmp_path)]
    ablate.main([*words, '--seeds', '2', '--plot', str(plot)])
    head, _, *rows = capsys.readouterr().out.splitlines()
    assert head == '| | batch 64 | batch 256 | batch 1024 |'
    # All settings of a seed run before those of the next.
    assert rows[0] == '| batch norm | 11.5 ± 10.5 | 12.5 ± 10.5 | 13.5 ± 10.5 |'
    assert len(rows) == 2 + len(studies.CLIPPINGS)
    assert plot.stat().st_size > 1000
