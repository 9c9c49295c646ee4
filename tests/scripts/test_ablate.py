"""Sweeps over small runs: what they are, that they go on, and how their seeds are summed up."""

import importlib
import json

import pytest
import training_runs

from nfnets import config as config_lib
from nfnets.configs import digits


@pytest.fixture
def sweep(monkeypatch):
    monkeypatch.syspath_prepend(training_runs.ROOT / 'scripts' / 'experiments')
    return importlib.import_module('sweep')


@pytest.fixture
def ablate(sweep):
    return importlib.import_module('ablate')


def test_runs_of_different_settings_have_different_names_and_valid_configs(ablate):
    by_name = {}
    for study in ablate.STUDIES.values():
        for label in study.settings:
            for batch in study.batches:
                for run in ablate.runs_of(study, label, batch, seeds=2, epochs=20):
                    by_name.setdefault(run.name, []).append((study.rate_per_256, run))
    for name, runs in by_name.items():
        assert all(run == runs[0] for run in runs), name
        assert not set('/ ') & set(name)
    for rate_per_256, run in (runs[0] for runs in by_name.values()):
        config = digits.get_config(run.network)
        config.update_from_flattened_dict(run.settings)
        config_lib.check(config)
        rate = config.optimizer.learning_rate / config.train.batch_size
        assert rate == pytest.approx(rate_per_256 / 256)
        assert config.train.steps * config.train.batch_size == pytest.approx(1437 * 20, rel=0.04)


def _write(workdir, steps, last_step, top_1):
    workdir.mkdir()
    (workdir / 'config.json').write_text(json.dumps({'train': {'steps': steps}}))
    (workdir / 'metrics.jsonl').write_text(json.dumps({'step': last_step, 'eval/top_1': top_1}) + '\n')


def test_seeds_are_summed_up_and_those_that_diverged_count_as_chance(sweep, tmp_path):
    runs = [sweep.Run(f'run{seed}', 'NFResNet', {}) for seed in range(3)]
    _write(tmp_path / 'run0', 10, 10, 0.9)
    _write(tmp_path / 'run1', 10, 10, 0.8)
    (tmp_path / 'run2').mkdir()
    (tmp_path / 'run2' / 'diverged.txt').write_text('step 3: the loss is nan')
    summary = sweep.summarize(runs, tmp_path, chance=10.0)
    assert summary.mean == pytest.approx(60.0)
    assert summary.spread == pytest.approx(((30**2 + 20**2 + 50**2) / 3) ** 0.5)
    assert str(summary) == '60.0 ± 35.6 (1 of 3 diverged)'
    assert str(sweep.summarize(runs[:2], tmp_path)) == '85.0 ± 5.0'
    assert str(sweep.summarize(runs[2:], tmp_path)) == 'diverged'


def test_a_run_that_is_not_complete_has_no_accuracy(sweep, tmp_path):
    assert sweep.top_1(tmp_path / 'none') is None
    _write(tmp_path / 'run', 10, 5, 0.9)
    assert sweep.top_1(tmp_path / 'run') is None


def test_a_sweep_runs_what_is_lacking_and_records_what_diverges(sweep, tmp_path, capfd):
    tiny = {**training_runs.TINY, 'train.steps': 4, 'eval.every_steps': 4}
    diverging = sweep.Run('diverging', 'NFNet', {**tiny, 'optimizer.learning_rate': 1e37})
    complete = sweep.Run('complete', 'NFNet', tiny)
    _write(tmp_path / 'complete', 4, 4, 0.5)
    sweep.run_all([diverging, complete], tmp_path, jobs=1)
    assert 'the loss is' in (tmp_path / 'diverging' / 'diverged.txt').read_text()
    assert sweep.top_1(tmp_path / 'complete') == 0.5
    printed = capfd.readouterr().err
    assert '1/1' in printed
    assert 'complete' not in printed


def test_a_study_prints_a_table_and_draws_the_paper_s_figure(ablate, monkeypatch, tmp_path, capsys):
    def pretend(runs, workdir, jobs):
        for number, run in enumerate(runs):
            _write(workdir / run.name, run.settings['train.steps'], run.settings['train.steps'], number / 100)

    monkeypatch.setattr(ablate, 'run_all', pretend)
    plot = tmp_path / 'plots' / 'agc.png'
    ablate.main(['agc', '--workdir', str(tmp_path), '--seeds', '2', '--plot', str(plot)])
    head, _, *rows = capsys.readouterr().out.splitlines()
    assert head == '| | batch 64 | batch 256 | batch 1024 |'
    assert rows[0] == '| batch norm | 0.5 ± 0.5 | 2.5 ± 0.5 | 4.5 ± 0.5 |'
    assert len(rows) == 2 + len(ablate.CLIPPINGS)
    assert plot.stat().st_size > 1000
