"""What is read of runs, whole and broken, and what differs between them."""

import dataclasses

import numpy as np
import pytest
import small_runs

from nfnets.data.imagenet import imagenet_names
from nfnets.errors import InputError
from nfnets.run.logged import (
    Curve,
    all_settings,
    are_on_same_data,
    differences,
    is_on_imagenet,
    read_curves,
    read_runs,
    thin,
)

LINES = [{'step': 20, 'train/loss': 2.0, 'learning_rate': 0.5}, {'step': 40, 'train/loss': 1.0}]


def test_curves_are_read_as_far_as_lines_are_whole(tmp_path):
    path = tmp_path / 'metrics.jsonl'
    path.write_text(
        '{"step": 20, "loss": 2.5, "rate": 1}\n{"step": 40, "loss": NaN}\nnot JSON\n[1]\n{"loss": 3}\n'
        '{"step": 60, "loss": "x"}\n{"step": 60, "loss": 0.5}\n{"step": 80, "lo'
    )
    curves, unread = read_curves(path)
    assert curves.keys() == {'loss', 'rate'}
    np.testing.assert_array_equal(curves['loss'].steps, [20, 40, 60])
    np.testing.assert_array_equal(curves['loss'].values, [2.5, np.nan, 0.5])
    np.testing.assert_array_equal(curves['rate'], [[20], [1]])
    assert unread == 5
    assert read_curves(tmp_path / 'none') == ({}, 0)


def test_a_value_that_is_null_leaves_the_rest_of_its_line(tmp_path):
    path = tmp_path / 'metrics.jsonl'
    path.write_text('{"step": 20, "loss": null, "rate": 0.5}\n{"step": null, "loss": 1}\n')
    curves, unread = read_curves(path)
    np.testing.assert_array_equal(curves['loss'], [[20], [np.nan]])
    np.testing.assert_array_equal(curves['rate'], [[20], [0.5]])
    assert unread == 1


def test_a_long_curve_becomes_means_of_stretches():
    values = np.random.default_rng(0).normal(size=12)
    curve = Curve(np.arange(1.0, 13.0), values)
    shorter = thin(curve, 4)
    np.testing.assert_array_equal(shorter.steps, [2, 5, 8, 11])
    expected = [sum(values[i : i + 3]) / 3 for i in (0, 3, 6, 9)]
    np.testing.assert_allclose(shorter.values, expected, rtol=1e-12)
    assert thin(curve, 12) is curve
    values[[0, 3, 4, 5]] = np.nan, np.nan, np.inf, np.nan
    np.testing.assert_allclose(thin(curve, 4).values, [sum(values[1:3]) / 2, np.nan, *expected[2:]])
    assert len(thin(curve, 5).steps) == 5


def test_runs_of_one_name_get_their_folder_and_are_read_once(tmp_path):
    workdirs = [small_runs.write(tmp_path / parent / 'run', LINES) for parent in 'ab']
    workdirs += [small_runs.write(tmp_path / 'other', LINES[:1]), tmp_path / 'a' / '..' / 'other']
    runs = read_runs(workdirs)
    assert [run.name for run in runs] == [str(workdirs[0]), str(workdirs[1]), 'other']
    assert [run.step for run in runs] == [40, 40, 20]
    assert runs[0].last('train/loss') == 1.0
    assert runs[0].last('eval/loss') is None
    assert runs[0].config.train.batch_size == 64


def test_differences_are_of_the_settings_that_are_not_the_same_in_all(tmp_path):
    settings = [
        {'optimizer.learning_rate': rate, 'model.widths': widths}
        for rate, widths in ((0.5, (32, 64)), (0.1, (32, 64)), (0.5, (64, 64)))
    ]
    runs = read_runs([small_runs.write(tmp_path / str(i), LINES, s) for i, s in enumerate(settings)])
    assert differences(runs) == {
        'model.widths': [(32, 64), (32, 64), (64, 64)],
        'optimizer.learning_rate': [0.5, 0.1, 0.5],
    }
    assert differences(runs[:1]) == {}
    assert all_settings(runs)['train.batch_size'] == [64, 64, 64]


def test_runs_on_different_data_are_distinguished(tmp_path):
    first, second = read_runs([small_runs.write(tmp_path / name, LINES) for name in 'ab'])
    assert are_on_same_data([first, second])
    assert not are_on_same_data([first, dataclasses.replace(second, class_names=('cat', 'dog'))])
    other = small_runs.write(tmp_path / 'c', LINES, {'data.eval_split': 'train'})
    assert not are_on_same_data([first, *read_runs([other])])


def test_imagenet_is_known_by_its_name_or_its_classes(tmp_path):
    def is_on_it(run_name, **settings):
        keys = {f'data.{key}': value for key, value in settings.items()}
        (run,) = read_runs([small_runs.write(tmp_path / run_name, LINES, keys)])
        renamed = dataclasses.replace(run, class_names=tuple(imagenet_names()))
        return is_on_imagenet(run), is_on_imagenet(renamed)

    assert is_on_it('digits', name='imagenet2012') == (False, True)
    assert is_on_it('whole', source='tfds', name='imagenet2012') == (True, True)
    assert is_on_it('version', source='tfds', name='imagenet2012:5.1.0') == (True, True)
    assert is_on_it('pets', source='tfds', name='oxford_iiit_pet') == (False, True)
    assert is_on_it('folder', source='folder', dir='x') == (False, True)


def test_what_is_no_run_or_has_no_metrics_is_refused(tmp_path):
    with pytest.raises(InputError, match=r'is no working directory of a run: it holds no config\.json'):
        read_runs([tmp_path])
    silent = small_runs.write(tmp_path / 'silent', [])
    with pytest.raises(InputError, match=r'no metrics in .* yet: the first line comes after step 20'):
        read_runs([silent])
    runs = read_runs([silent, small_runs.write(tmp_path / 'other', LINES)])
    assert [run.step for run in runs] == [0, 40]
