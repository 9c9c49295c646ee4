"""The study of transfer: its runs, its few examples, and its table."""

import json

import numpy as np
import pytest

from nfnets import config as config_lib
from nfnets.data.load import load_source


@pytest.fixture
def transfer(experiment):
    return experiment('transfer')


def test_every_run_is_valid_and_begins_on_the_other_set_with_the_same_network_and_seed(transfer):
    runs = transfer.all_runs()
    assert len({run.key for run in runs}) == len(runs)
    for run in runs:
        config = run.load()
        config_lib.check(config)
        if run.start is not None:
            data, _, network = run.config.partition(':')
            other, _, same = run.start.config.partition(':')
            assert (same, run.start.settings['seed']) == (network, run.settings['seed'])
            assert {data, other} == {'digits', 'fashion_mnist'}
    assert sum(run.start is None for run in runs) == len(runs) / 2


def test_each_seed_draws_as_many_digits_of_each_class_and_none_to_evaluate_on(
    transfer, tmp_path, monkeypatch
):
    monkeypatch.setattr(transfer, 'SEEDS', 2)
    transfer.write_digits(tmp_path)
    of_split = {}
    for split in ('train-50-0', 'train-200-0', 'train-50-1', 'eval'):
        source = load_source('folder', name='', directory=str(tmp_path), split=split)
        examples = [source.read(index) for index in range(len(source))]
        of_split[split] = {encoded for encoded, _ in examples}
        if split != 'eval':
            assert (np.bincount([label for _, label in examples]) == int(split.split('-')[1]) // 10).all()
    assert len(of_split['eval']) == 360
    assert of_split['train-50-0'] < of_split['train-200-0']
    assert of_split['train-50-0'] != of_split['train-50-1']
    assert not of_split['train-200-0'] & of_split['eval']


def test_the_command_writes_the_digits_and_does_all_runs(transfer, monkeypatch, tmp_path, capsys):
    done = []

    def pretend(runs, results, workdir, jobs, data_dirs):
        done.extend(run.key for run in runs)
        assert (results.name, data_dirs['fashion_mnist']) == ('transfer.jsonl', 'DATA')
        source = load_source('folder', name='', directory=data_dirs['digits'], split='eval')
        assert len(source) == 360

    monkeypatch.setattr(transfer, 'run_all', pretend)
    transfer.main(['--dir', 'DATA', '--workdir', str(tmp_path), '--results', str(tmp_path)])
    assert done == [run.key for run in transfer.all_runs()]
    assert capsys.readouterr().out.startswith('| to | examples |')


def test_the_table_has_the_better_rate_by_the_mean_of_all_seeds(transfer):
    there = {}
    accuracies_by_rate = (0.4, 0.4, 0.9), (0.6, 0.6, 0.6)
    for rate, accuracies in zip(transfer.RATES, accuracies_by_rate, strict=True):
        runs = transfer.of_seeds('digits', 'NF', 50, rate, True)
        for run, top_1 in zip(runs, accuracies, strict=True):
            there[run.key] = {**json.loads(run.key), 'top_1': top_1}
    rows = transfer.table(there).splitlines()
    assert rows[2] == '| digits | 50 | NF |  | 60.0 ± 0.0 |'
