"""A run of another length that starts from the state of an earlier one: as if it had been planned so."""

import json
import math
import shutil

import pytest
import training_runs

from nfnets.errors import InputError

# Rates are the same whatever the length up to the end of the warm-up, after 3 updates.
LONGER = {**training_runs.TINY, 'train.steps': 16}


def test_rewound_to_where_both_schedules_agree_a_run_ends_as_the_longer_one(undisturbed, tmp_path, capfd):
    before = {path: path.stat().st_mtime_ns for path in undisturbed[0].rglob('*')}
    training_runs.train(tmp_path / 'new', {**LONGER, 'rewind_from': f'{undisturbed[0]}@4'})
    assert f'rewound to step 4 of {undisturbed[0]}, 12 steps to go' in capfd.readouterr().out
    training_runs.train(tmp_path / 'planned', LONGER)
    training_runs.assert_equal(tmp_path / 'new', tmp_path / 'planned')
    lines = [line for line in training_runs.metrics(tmp_path / 'planned') if line['step'] > 4]
    assert training_runs.metrics(tmp_path / 'new') == lines
    assert {path: path.stat().st_mtime_ns for path in undisturbed[0].rglob('*')} == before


def test_rewound_to_anywhere_it_trains_on_at_the_rates_of_its_own_length(undisturbed, tmp_path):
    shutil.copytree(undisturbed[0], tmp_path / 'run')
    settings = {**LONGER, 'rewind_from': f'{tmp_path}/run@8'}
    training_runs.train(tmp_path / 'new', settings)
    lines = [line for line in training_runs.metrics(tmp_path / 'new') if 'train/loss' in line]
    rates = {step: 0.05 * (1 + math.cos(math.pi * (step - 1 - 3) / (16 - 3))) for step in range(9, 17)}
    assert {line['step']: line['learning_rate'] for line in lines} == pytest.approx(rates, rel=1e-5)

    # The same checkpoint, resumed as one of a run that was planned so.
    shutil.copytree(undisturbed[0], tmp_path / 'planned')
    shutil.rmtree(tmp_path / 'planned' / 'checkpoints' / '12')
    config = json.loads((tmp_path / 'new' / 'config.json').read_text())
    (tmp_path / 'planned' / 'config.json').write_text(json.dumps({**config, 'rewind_from': None}))
    training_runs.train(tmp_path / 'planned', LONGER)
    training_runs.assert_equal(tmp_path / 'new', tmp_path / 'planned')

    # Stopped and resumed, it needs the earlier run no more.
    shutil.rmtree(tmp_path / 'run')
    shutil.rmtree(tmp_path / 'new' / 'checkpoints' / '16')
    training_runs.train(tmp_path / 'new', settings)
    training_runs.assert_equal(tmp_path / 'new', tmp_path / 'planned')


@pytest.mark.parametrize(
    ('given', 'changed', 'message'),
    [
        (
            '{run}@5',
            {},
            '^rewind_from=.*/run@5: there is no checkpoint of step 5, only those of steps 4, 8, 12',
        ),
        ('{run}', {'train.steps': 12}, r'train\.steps=12 must be more than the 12 that are done'),
        ('{run}@8', {'train.steps': 6}, r'train\.steps=6 must be more than the 8 that are done'),
        ('{run}@8', {'model.widths': (16,)}, r'another config: model\.widths=\[16\] \(there: \[32\]\); only'),
        ('{run}@8', {'optimizer.momentum': 0.8}, r'optimizer\.momentum=0\.8 \(there: 0\.9\)'),
        ('{run}/checkpoints', {}, '^rewind_from=.* is no working directory of a run'),
    ],
)
def test_what_cannot_be_rewound_to_is_named_and_nothing_written(
    undisturbed, given, changed, message, tmp_path
):
    given = given.format(run=undisturbed[0])
    with pytest.raises(InputError, match=message):
        training_runs.train(tmp_path / 'new', {**LONGER, 'rewind_from': given, **changed})
    assert not (tmp_path / 'new').exists()


def test_a_run_on_other_classes_is_not_rewound_to(undisturbed, tmp_path):
    shutil.copytree(undisturbed[0], tmp_path / 'run')
    (tmp_path / 'run' / 'class_names.json').write_text(json.dumps(list('abcdefghij')))
    with pytest.raises(InputError, match='that run is on other classes than the data has now'):
        training_runs.train(tmp_path / 'new', {**LONGER, 'rewind_from': f'{tmp_path}/run@8'})
    assert not (tmp_path / 'new').exists()


def test_a_damaged_checkpoint_is_named_and_stays(undisturbed, tmp_path):
    shutil.copytree(undisturbed[0], tmp_path / 'run')
    for file in training_runs.array_files(tmp_path / 'run', step=8):
        training_runs.flip_a_bit(file)
    with pytest.raises(InputError, match=r'checkpoint 8 in .*run/checkpoints is damaged'):
        training_runs.train(tmp_path / 'new', {**LONGER, 'rewind_from': f'{tmp_path}/run@8'})
    assert {path.name for path in (tmp_path / 'run' / 'checkpoints').iterdir()} == {'4', '8', '12'}
