"""Checkpoints give back what was saved, bit for bit."""

import errno
import gc
import importlib
import re
import shutil
import time
import zlib

import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
import pytest
import training_runs

from nfnets.errors import InputError, TrainingStopped
from nfnets.models.param_layout import ParamLayout
from nfnets.optim.optimizer import OptimizerSettings, make_optimizer
from nfnets.run.checkpoint import Checkpoints
from nfnets.run.checksum import checksums
from nfnets.train_state import init_train_state


def _optimizer():
    settings = OptimizerSettings(momentum=0.9, weight_decay=1e-4, agc_clipping=0.01, agc_eps=1e-3)
    return make_optimizer(0.1, settings, is_clipped=lambda name: name != 'Net/~/linear/w')


@jax.jit
def _start(params):
    return init_train_state(params, _optimizer())


@jax.jit
def _step(state, grads):
    updates, opt_state = _optimizer().update(grads, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    return state._replace(step=state.step + 1, params=params, opt_state=opt_state)


def _state(seed, updates):
    rng = np.random.default_rng(seed)
    shapes = {
        'Net/~/conv': {'w': (3, 3, 2, 4), 'gain': (4,), 'skip_gain': ()},
        'Net/~/linear': {'w': (4, 5), 'b': (5,)},
    }

    def drawn():
        return {m: {n: np.float32(rng.normal(size=s)) for n, s in v.items()} for m, v in shapes.items()}

    state = _start(drawn())
    for _ in range(updates):
        state = _step(state, drawn())
    return state


def _dicts(tree):
    """All dicts in a tree of dicts and lists."""
    children = tree.values() if isinstance(tree, dict) else tree if isinstance(tree, list | tuple) else ()
    return [*([tree] if isinstance(tree, dict) else []), *(x for child in children for x in _dicts(child))]


def test_a_state_comes_back_bit_equal_with_its_position(tmp_path):
    saved = _state(seed=1, updates=3)
    checkpoints = Checkpoints(tmp_path / 'checkpoints', keep=2)
    assert checkpoints.latest_step() is None
    checkpoints.save(saved, position=12345)
    checkpoints.close()

    restored, position, problems = Checkpoints(tmp_path / 'checkpoints', keep=2).restore(_state(2, 0))
    assert position == 12345
    assert not problems
    assert jax.tree.structure(restored) == jax.tree.structure(saved)
    for old, new in zip(jax.tree.leaves(saved), jax.tree.leaves(restored), strict=True):
        assert new.dtype == old.dtype
        np.testing.assert_array_equal(new, old)


def test_a_stacked_state_is_unstacked_on_disk_and_comes_back_stacked(tmp_path):
    layout = ParamLayout((('Net/~/block_1', 'Net/~/block_2'),))
    rng = np.random.default_rng(0)
    both = {'w': rng.normal(size=(2, 3, 4)).astype(np.float32), 'skip_gain': np.float32([5.0, 6.0])}
    params = jax.tree.map(jnp.asarray, {'Net/~/block_1': both, 'Net/~/linear': {'b': np.ones(3, np.float32)}})
    state = init_train_state(params, _optimizer())
    others = {'ema_params': state.ema_params, 'opt_state': state.opt_state}
    others = jax.tree.map(lambda x: jnp.asarray(rng.normal(size=x.shape).astype(x.dtype)), others)
    saved = state._replace(**others)
    checkpoints = Checkpoints(tmp_path / 'checkpoints', keep=1, layout=layout)
    checkpoints.save(saved, position=0)
    checkpoints.close()

    apart = Checkpoints(tmp_path / 'checkpoints', keep=1).restore_arrays()
    names = ['Net/~/block_1', 'Net/~/block_2', 'Net/~/linear']
    momentum = optax.tree_utils.tree_get(saved.opt_state, 'trace')
    [apart_momentum] = [names_ for names_ in _dicts(apart['opt_state']) if 'Net/~/linear' in names_]
    for values, stacked in (
        (apart['params'], params),
        (apart['ema_params'], saved.ema_params),
        (apart_momentum, momentum),
    ):
        assert sorted(values) == names
        for index in (0, 1):
            for name in ('w', 'skip_gain'):
                one = values[names[index]][name]
                assert one.shape == both[name].shape[1:]
                np.testing.assert_array_equal(one, stacked['Net/~/block_1'][name][index])

    restored, _, problems = Checkpoints(tmp_path / 'checkpoints', keep=1, layout=layout).restore(state)
    assert not problems
    assert jax.tree.structure(restored) == jax.tree.structure(saved)
    jax.tree.map(np.testing.assert_array_equal, restored, saved)


def test_only_the_last_few_are_kept(tmp_path):
    checkpoints = Checkpoints(tmp_path / 'checkpoints', keep=2)
    for updates in (1, 2, 3, 4):
        checkpoints.save(_state(0, updates), position=updates)
    checkpoints.close()
    names = {p.name for p in (tmp_path / 'checkpoints').iterdir() if p.is_dir()}
    assert names == {'3', '4'}


def test_a_saved_copy_does_not_follow_the_state(tmp_path):
    checkpoints = Checkpoints(tmp_path / 'checkpoints', keep=1)
    state = _state(0, 1)
    before = np.array(state.params['Net/~/linear']['w'])
    checkpoints.save(state, position=0)
    jax.tree.map(lambda x: x.delete(), state.params)  # As donation to the next step does.
    checkpoints.close()
    restored, _, _ = Checkpoints(tmp_path / 'checkpoints', keep=1).restore(_state(2, 0))
    np.testing.assert_array_equal(restored.params['Net/~/linear']['w'], before)


def test_an_unfinished_checkpoint_does_not_count(tmp_path):
    checkpoints = Checkpoints(tmp_path / 'checkpoints', keep=3)
    checkpoints.save(_state(0, 1), position=1)
    checkpoints.close()
    unfinished = tmp_path / 'checkpoints' / '2.orbax-checkpoint-tmp'
    unfinished.mkdir()
    (unfinished / 'state').write_text('')
    assert Checkpoints(tmp_path / 'checkpoints', keep=3).latest_step() == 1


def _save(directory, *updates):
    checkpoints = Checkpoints(directory, keep=None)
    for number in updates:
        checkpoints.save(_state(0, number), position=10 * number)
    checkpoints.close()


def _flip_a_bit(checkpoint):
    for data in (checkpoint / 'state').rglob('d/*'):  # The arrays; other files repeat what is known.
        training_runs.flip_a_bit(data)


def _cut_short(checkpoint):
    for data in (checkpoint / 'state').rglob('*'):
        if data.is_file():
            data.write_bytes(data.read_bytes()[:-1])


def _move_in_the_data(checkpoint):
    position = checkpoint / 'input' / 'metadata'
    position.write_text(position.read_text().replace('20', '21'))


def _lose_the_state(checkpoint):
    shutil.rmtree(checkpoint / 'state')


@pytest.fixture
def unfinished_reads():
    """What Orbax leaves of a read that failed complains when it is collected, and is collected here."""
    gc.freeze()  # What is there already takes a second to look through.
    yield
    gc.collect()


complaints_ignored = pytest.mark.filterwarnings('ignore::pytest.PytestUnraisableExceptionWarning')
DAMAGES = [_flip_a_bit, _cut_short, _move_in_the_data, _lose_the_state]


@complaints_ignored
@pytest.mark.usefixtures('unfinished_reads')
@pytest.mark.parametrize('damage', [_flip_a_bit, _cut_short, _move_in_the_data])
def test_a_damaged_checkpoint_is_set_aside_and_the_one_before_it_used(damage, tmp_path):
    directory = tmp_path / 'checkpoints'
    _save(directory, 1, 2)
    damage(directory / '2')
    checkpoints = Checkpoints(directory, keep=None)
    state, position, (problem,) = checkpoints.restore(_state(2, 0))
    assert int(state.step) == 1
    assert position == 10
    assert problem.startswith('checkpoint 2 is damaged: ')
    assert checkpoints.latest_step() == 1
    checkpoints.save(_state(0, 2), position=20)  # The run comes there again.
    checkpoints.close()
    again, position, problems = Checkpoints(directory, keep=None).restore(_state(2, 0))
    assert (int(again.step), position, problems) == (2, 20, [])
    assert {p.name for p in directory.iterdir()} == {'1', '2', '2.damaged'}


def _assert_stops_and_touches_nothing(directory, message):
    before = {path: path.stat().st_mtime_ns for path in directory.rglob('*')}
    with pytest.raises(
        TrainingStopped, match=rf'checkpoint 2 .* not damaged: {message}.*; nothing was changed'
    ):
        Checkpoints(directory, keep=None).restore(_state(2, 0))
    assert {path: path.stat().st_mtime_ns for path in directory.rglob('*')} == before


@pytest.mark.parametrize(
    'error',
    [
        MemoryError('cannot allocate 40 GiB'),
        OSError(errno.EIO, 'Input/output error'),
        PermissionError(errno.EACCES, 'Permission denied'),
        ValueError('RESOURCE_EXHAUSTED: Error reading "params.w/0" in OCDBT database: out of memory'),
        ValueError('INTERNAL: Error reading "params.w/0" in OCDBT database: Input/output error [OS error 5]'),
        KeyError('an item that another version of the library does not know'),
        TypeError('a mistake of the library'),
    ],
    ids=lambda error: f'{type(error).__name__}',
)
def test_an_error_that_shows_no_damage_stops_the_run_and_touches_nothing(error, tmp_path, monkeypatch):
    _save(tmp_path / 'checkpoints', 1, 2)

    def fail(*args, **kwargs):
        raise error

    monkeypatch.setattr(ocp.CheckpointManager, 'restore', fail)
    _assert_stops_and_touches_nothing(tmp_path / 'checkpoints', re.escape(str(error)))


def test_a_checkpoint_of_which_a_part_is_missing_stops_the_run_and_touches_nothing(tmp_path):
    _save(tmp_path / 'checkpoints', 1, 2)
    _lose_the_state(tmp_path / 'checkpoints' / '2')
    _assert_stops_and_touches_nothing(tmp_path / 'checkpoints', '.*"state" was not found')


def test_a_disk_that_fails_under_the_reader_stops_the_run_and_touches_nothing(tmp_path):
    """Reads of the arrays fail with EISDIR, by the system itself, below all libraries."""
    _save(tmp_path / 'checkpoints', 1, 2)
    for data in (tmp_path / 'checkpoints' / '2' / 'state').rglob('d/*'):
        data.unlink()
        data.mkdir()
    _assert_stops_and_touches_nothing(tmp_path / 'checkpoints', '')


@complaints_ignored
@pytest.mark.usefixtures('unfinished_reads')
def test_where_no_checkpoint_is_whole_all_are_named_and_left(tmp_path):
    directory = tmp_path / 'checkpoints'
    _save(directory, 1, 2)
    for step in ('1', '2'):
        _flip_a_bit(directory / step)
    with pytest.raises(InputError, match=r'is whole: 2: .*; 1: '):
        Checkpoints(directory, keep=None).restore(_state(2, 0))
    assert {p.name for p in directory.iterdir()} == {'1', '2'}


@complaints_ignored
@pytest.mark.usefixtures('unfinished_reads')
@pytest.mark.parametrize('damage', DAMAGES)
def test_parameters_are_not_taken_from_a_damaged_checkpoint(damage, tmp_path):
    _save(tmp_path / 'checkpoints', 2)
    damage(tmp_path / 'checkpoints' / '2')
    with pytest.raises((InputError, ValueError, KeyError, FileNotFoundError)):
        Checkpoints(tmp_path / 'checkpoints', keep=None).restore_arrays()


def test_a_checksum_is_of_type_shape_and_bytes():
    array = np.arange(6, dtype='<f4').reshape(2, 3)
    expected = zlib.crc32(b'float32 (2, 3)' + array.tobytes())
    assert checksums({'a': {'b': array}}) == {'a/b': expected}
    assert checksums({'a': {'b': array.T}})['a/b'] != expected
    assert checksums({'a': {'b': array.view('i4')}})['a/b'] != expected


def test_what_a_checkpoint_costs_is_measured(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(training_runs.ROOT / 'scripts')
    benchmark = importlib.import_module('benchmarks.checkpoint')

    class Slow(Checkpoints):
        def save(self, state, position):
            super().save(state, position)
            time.sleep(0.2)

        def close(self):
            super().close()
            time.sleep(0.3)

    monkeypatch.setattr(benchmark, 'Checkpoints', Slow)
    message = benchmark.time_saving(_state(seed=1, updates=1), rounds=2, directory=tmp_path)
    # 77 + 25 numbers of parameters, their average and momentum; two counts.
    assert message['size_mb'] == pytest.approx(102 * 4 * 3 / 1e6, abs=0.0005)
    assert message['copy_ms'] > 0
    assert message['rest_ms'] > 200 - message['copy_ms']
    assert message['write_ms'] > 300
    assert not list(tmp_path.iterdir())
