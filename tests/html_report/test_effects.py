"""Which differences between runs are shown: those that made one."""

import math

import ml_collections
import pytest
import small_runs

from nfnets.config import flatten
from nfnets.errors import InputError
from nfnets.html_report.effects import has_effect, is_computed
from nfnets.html_report.sections import settings
from nfnets.run.logged import read_runs
from nfnets.run.workdir import check_resumable

LINES = [{'step': 20, 'train/loss': 2.0}]


def _tables(tmp_path, *each):
    """{what a table says: {setting: its cells}} of the settings of runs, without the table of all."""
    runs = read_runs([small_runs.write(tmp_path / f'{n}', LINES, keys) for n, keys in enumerate(each)])
    tables = {}
    for table in settings(runs).iter('table'):
        (message, *_), *rows = ([''.join(cell.itertext()) for cell in row] for row in table.iter('tr'))
        tables[message] = {key: cells for key, *cells in rows}
    del tables['setting']
    return tables


@pytest.mark.parametrize(
    ('key', 'values', 'off', 'on'),
    [
        ('augment.partners', ['batch', 'fresh'], {'augment.mixup_alpha': 0.0}, {'augment.cutmix': True}),
        ('augment.randaugment_magnitude', [5, 10], {}, {'augment.randaugment_layers': 2}),
        ('sam.ascent_fraction', [0.25, 0.5], {}, {'sam.rho': 0.05}),
        ('optimizer.agc_eps', [0.01, 0.02], {'optimizer.agc_clipping': math.inf}, {}),
        ('optimizer.agc_skip', ['a', 'b'], {'optimizer.agc_clipping': math.inf}, {}),
        ('model.second_conv', [True, False], {'model.name': 'NFResNet', 'model.variant': 'ResNet50'}, {}),
        ('data.name', ['a', 'b'], {}, {'data.source': 'tfds'}),
        ('data.dir', ['a', 'b'], {}, {'data.source': 'folder'}),
    ],
)
def test_a_setting_that_nothing_uses_is_no_difference(tmp_path, key, values, off, on):
    none, one, both = (
        _tables(tmp_path / name, *({**more, key: v} for more, v in zip(others, values, strict=True)))
        for name, others in (('none', [off, off]), ('one', [off, on]), ('both', [on, on]))
    )
    first, second = map(str, values)
    assert none == {}
    assert one['differs'][key] == [f'{first} (unused)', second]
    assert both == {'differs': {key: [first, second]}}


def test_what_a_rate_was_made_of_is_no_difference_beside_the_rate(tmp_path):
    each = [{'optimizer.learning_rate': None, 'optimizer.learning_rate_per_256': rate} for rate in (0.1, 0.2)]
    assert _tables(tmp_path, *each) == {'differs': {'optimizer.learning_rate': ['0.025', '0.05']}}


def test_a_variant_counts_where_the_network_is_it(tmp_path):
    assert _tables(tmp_path / 'own', {'model.variant': 'F0'}, {'model.variant': 'F1'}) == {}
    whole = {'model.widths': None, 'model.depths': None, 'model.group_width': None, 'model.variant': 'F1'}
    message = _tables(tmp_path / 'whole', {}, whole)['differs']
    assert message['model.variant'] == ['F0 (unused)', 'F1']
    assert message['model.depths'] == ['(1, 1)', '(2, 4, 12, 6)']


def test_settings_that_change_no_result_are_listed_separately(tmp_path):
    quiet = {
        'train.log_every_steps': 7,
        'eval.every_steps': 9,
        'checkpoint.keep': 1,
        'eval.every_epochs': 2.0,
    }
    assert _tables(tmp_path, {}, {**quiet, 'seed': 3}) == {
        'differs': {'seed': ['0', '3']},
        'differs, but computes the same': {
            'checkpoint.keep': ['3', '1'],
            'eval.every_steps': ['100', '9'],
            'train.log_every_steps': ['20', '7'],
        },
    }


def test_settings_listed_separately_are_those_that_may_change_on_resume(tmp_path):
    workdir = small_runs.write(tmp_path / 'run', LINES)
    (run,) = read_runs([workdir])
    before = flatten(run.config.to_dict())
    may_change = set()
    for key in before:
        changed = ml_collections.ConfigDict(run.config.to_dict())
        with changed.ignore_type():
            changed.update_from_flattened_dict({key: 'another'})
        try:
            check_resumable(workdir, ml_collections.FrozenConfigDict(changed), run.class_names)
        except InputError:
            continue
        may_change.add(key)
    assert may_change == {key for key in before if not is_computed(key, run.config)}


def test_settings_of_a_probe_matter_where_there_is_one():
    without, digits = (ml_collections.FrozenConfigDict({'probe': {'source': x}}) for x in (None, 'digits'))
    for key in ('probe.shots', 'probe.eval_split'):
        assert (has_effect(key, without), has_effect(key, digits)) == (False, True)
    assert not has_effect('probe.dir', digits)


def test_runs_older_than_a_setting_are_taken_to_use_it():
    old = ml_collections.FrozenConfigDict({'sam': {'ascent_fraction': 0.5}})
    assert has_effect('sam.ascent_fraction', old)
