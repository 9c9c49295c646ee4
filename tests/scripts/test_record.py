"""Complete runs are recorded with their curves, and the documents hold what is recorded."""

import json
import os

import pytest
import training_runs
from etils import epath

from nfnets.config import flatten
from nfnets.configs import digits
from nfnets.errors import InputError
from nfnets.run.logged import read_logged_run


def test_a_run_is_recorded_with_what_differs_its_curves_and_its_end(experiment, undisturbed, tmp_path):
    record = experiment('record')
    workdir, _ = undisturbed
    picture = tmp_path / 'plots' / 'curves.png'
    words = [str(workdir), '--config=digits', '--results', str(tmp_path), '--plot', str(picture)]
    record.main(words)
    (line,) = (tmp_path / 'runs.jsonl').read_text().splitlines()
    found = json.loads(line)
    scalars = [json.loads(line) for line in (workdir / 'metrics.jsonl').read_text().splitlines()]
    evaluations = [[s['step'], round(s['eval/top_1'], 4)] for s in scalars if 'eval/top_1' in s]
    assert found['curves']['eval/top_1'] == evaluations
    assert found['top_1'] == [s['eval/top_1'] for s in scalars if 'eval/top_1' in s][-1]
    assert found['ema_top_1'] == [s['eval_ema/top_1'] for s in scalars if 'eval/top_1' in s][-1]
    given = flatten(digits.get_config().to_dict())
    assert found['settings'] == {
        key: list(value) if isinstance(value, tuple) else value
        for key, value in training_runs.TINY.items()
        if given[key] is not None and given[key] != value
    }
    assert picture.stat().st_size > 1000


def test_the_time_of_a_run_is_that_of_its_processes_without_what_lies_between(experiment, tmp_path):
    for begin, end in ((1_000_000, 1_000_060), (1_005_000, 1_005_010)):
        path = tmp_path / f'events.out.tfevents.{begin}.my.host'
        path.touch()
        os.utime(path, (end, end))
    assert experiment('record')._seconds(tmp_path) == 70


def test_a_run_that_is_not_complete_is_not_recorded(experiment, undisturbed, tmp_path):
    workdir, _ = undisturbed
    (tmp_path / 'config.json').write_text((workdir / 'config.json').read_text())
    lines = (workdir / 'metrics.jsonl').read_text().splitlines(keepends=True)
    (tmp_path / 'metrics.jsonl').write_text(lines[0])
    with pytest.raises(InputError, match='not complete'):
        experiment('record').record_of(read_logged_run(epath.Path(tmp_path)), 'digits')


def test_marks_are_filled_with_the_table_of_a_study_and_with_runs(experiment, tmp_path):
    page, studies = experiment('page'), experiment('studies')
    data = studies.DATA['digits']
    study = studies.agc(data)
    runs = studies.runs_of(data, study, 'no clipping', data.batches[1], seeds=2)
    lines = [{**json.loads(run.key), 'top_1': top_1} for run, top_1 in zip(runs, (0.5, 0.7), strict=True)]
    (tmp_path / 'digits_agc.jsonl').write_text(''.join(json.dumps(line) + '\n' for line in lines))
    of_seeds = [
        {
            'config': 'digits',
            'settings': settings,
            'machine': '2 cores',
            'seconds': seconds,
            'top_1': 0.975,
            'ema_top_1': top_1,
        }
        for settings, seconds, top_1 in (({}, 80, 0.98), ({'seed': 1}, 113, 0.985))
    ]
    (tmp_path / 'runs.jsonl').write_text(''.join(json.dumps(line) + '\n' for line in of_seeds))
    document = (
        'before\n<!-- study: digits agc -->\nold\n<!-- end -->\nbetween\n<!-- runs -->\n<!-- end -->\nafter\n'
    )
    filled = page.filled(document, tmp_path)
    assert '| no clipping |  | 60.0 ± 10.0 (2 of 3 seeds) |  |\n' in filled
    assert (
        ', seeds 0, 1 | 2 cores, 80 to 113 s | top-1 97.50, 97.50%, EMA 98.00, 98.50% |\n<!-- end -->\nafter'
        in filled
    )
    assert 'old' not in filled
    assert page.filled(filled, tmp_path) == filled
    with pytest.raises(InputError, match='names no study: there are agc'):
        page.filled(document.replace('digits agc', 'digits acg'), tmp_path)


def test_the_documents_hold_what_is_recorded(experiment, capsys):
    with pytest.raises(SystemExit) as ended:
        experiment('page').main(['--check'])
    assert not ended.value.code, capsys.readouterr().out
