"""Runs, checkpoints and data in a bucket, which a server on this machine plays."""

import contextlib
import gc
import hashlib
import re
import signal
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import tars
import tiny_imagenet
import tiny_network
import training_runs
from etils import epath
from fake_gcs import FakeGcs

from nfnets import load_checkpoint
from nfnets.commands.command_line import run
from nfnets.data.load import load_source
from nfnets.data.tensorflow import tf
from nfnets.errors import InputError, TrainingStopped
from nfnets.html_report.published import read_points
from nfnets.run.checkpoint import Checkpoints, whole_steps
from nfnets.run.metrics import MetricsWriter
from nfnets.run.profile import Profile
from nfnets.run.workdir import read_config
from nfnets.train_state import init_train_state
from nfnets.weights.about import About
from nfnets.weights.save import save_checkpoint

BUCKET = epath.Path('gs://bucket')

# Google's library and Orbax's threads leave sockets to be closed by Python.
pytestmark = pytest.mark.filterwarnings('ignore::pytest.PytestUnraisableExceptionWarning')


@pytest.fixture(scope='module')
def gcs(tmp_path_factory):
    with (
        contextlib.closing(FakeGcs(tmp_path_factory.mktemp('gcs'))) as server,
        pytest.MonkeyPatch.context() as patch,
    ):
        for name, value in server.environment.items():
            patch.setenv(name, value)
        yield server
        gc.collect()  # Here, lest a socket's end is taken for a fault of another test.


def test_a_run_killed_while_it_writes_a_checkpoint_ends_bit_equal_to_one_on_a_disk(gcs, undisturbed, capfd):
    workdir = BUCKET / 'run'
    process = training_runs.start(workdir, training_runs.TINY)
    while not gcs.names('run/checkpoints/8/'):
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert 'run/checkpoints/8/commit_success.txt' not in gcs.names()
    training_runs.train(workdir, training_runs.TINY)
    assert 'resuming from step 4\n' in capfd.readouterr().out
    training_runs.assert_equal(workdir, undisturbed[0])
    assert training_runs.metrics(workdir) == training_runs.metrics(undisturbed[0])
    assert _logged_steps(gcs) == set(range(1, 13))
    read, expected = (load_checkpoint(path) for path in ('gs://bucket/run', undisturbed[0]))
    assert read.about == expected.about
    jax.tree.map(np.testing.assert_array_equal, read.ema_params, expected.ema_params)


def _logged_steps(gcs):
    files = [gcs.file(name) for name in gcs.names('run/events.out.tfevents.')]
    events = (
        tf.compat.v1.Event.FromString(record)
        for file in files
        for record in tf.data.TFRecordDataset([str(file)]).as_numpy_iterator()
    )
    return {event.step for event in events if event.summary.value}


def _state(step):
    params = {'linear': {'w': jnp.full((300,), step, jnp.float32)}}
    return init_train_state(params, optax.identity())._replace(step=jnp.asarray(step))


def test_a_damaged_checkpoint_is_set_aside_and_the_one_before_it_used(gcs):
    directory = BUCKET / 'damaged' / 'checkpoints'
    with contextlib.closing(Checkpoints(directory, keep=2)) as checkpoints:
        for step in (1, 2, 3):
            checkpoints.save(_state(step), position=10 * step)
    assert {name.split('/')[2] for name in gcs.names('damaged/')} == {'2', '3'}
    for name in gcs.names('damaged/checkpoints/3/state/d/'):
        content = bytearray(gcs.file(name).read_bytes())
        content[len(content) // 2] ^= 1
        gcs.file(name).write_bytes(content)
    with contextlib.closing(Checkpoints(directory, keep=2)) as checkpoints:
        state, position, (problem,) = checkpoints.restore(_state(0))
        assert problem.startswith('checkpoint 3 is damaged: ')
        assert (int(state.step), position) == (2, 20)
        np.testing.assert_array_equal(state.params['linear']['w'], np.full(300, 2, np.float32))
        checkpoints.save(_state(3), position=30)
    assert {name.split('/')[2] for name in gcs.names('damaged/')} == {'2', '3', '3.damaged'}
    with contextlib.closing(Checkpoints(directory, keep=2)) as checkpoints:
        state, position, problems = checkpoints.restore(_state(0))
    assert (int(state.step), position, problems) == (3, 30, [])


def _assert_same_examples(source, expected):
    assert source.class_names == expected.class_names
    assert [source.read(i) for i in range(len(source))] == [expected.read(i) for i in range(len(expected))]


@pytest.fixture(params=['array_record', 'tfrecord'])
def both(request, gcs, tmp_path):
    """A data set of each form, on a disk and in the bucket."""
    tiny_imagenet.prepare(tmp_path, file_format=request.param)
    gcs.upload(tmp_path / 'imagenet2012', f'{request.param}/imagenet2012')
    yield tmp_path, BUCKET / request.param
    for name in gcs.names(request.param):
        gcs.file(name).unlink()


def _load(directory, split='validation'):
    return load_source('tfds', name='imagenet2012', directory=str(directory), split=split)


def test_a_data_set_is_read_from_a_bucket(both):
    on_disk, in_bucket = both
    for split in ('train[:70%]', 'validation', 'validation'):  # An index that was made is read.
        source = _load(in_bucket, split)
        _assert_same_examples(source, _load(on_disk, split))
        assert f'of {in_bucket}/imagenet2012/' in source.describe(0)


def test_the_index_of_tfrecords_is_kept_in_the_bucket_if_it_may_be_written(gcs, tiny_imagenet_tfrecords):
    for place in ('indexed', 'read-only/indexed'):
        gcs.upload(tiny_imagenet_tfrecords / 'imagenet2012', f'{place}/imagenet2012')
        _assert_same_examples(_load(BUCKET / place), _load(tiny_imagenet_tfrecords))
    (name,) = (name for name in gcs.names() if name.endswith('.idx'))
    records = [len(x) for x in tf.data.TFRecordDataset([str(_shard(gcs, 'indexed'))]).as_numpy_iterator()]
    lines, offset = [], 0
    for record in records:
        lines.append(f'{offset} {record + 16}\n')  # With its header and its checksum.
        offset += record + 16
    assert gcs.file(name).read_text() == ''.join(lines)
    assert name == f'{_name(gcs, "indexed")}.idx'
    for text in (''.join(lines[:-1]), ''.join(lines[1:]), 'no index', '0'):
        gcs.file(name).write_text(text)
        with pytest.raises(InputError, match=rf'gs://bucket/{name} is no index of the 37 records'):
            _load(BUCKET / 'indexed')


def _name(gcs, prefix):
    """Of the validation split's one shard."""
    (name,) = (name for name in gcs.names(prefix) if re.search(r'-validation.*-of-00001$', name))
    return name


def _shard(gcs, prefix):
    return gcs.file(_name(gcs, prefix))


def test_a_shard_in_a_bucket_that_is_cut_short_or_gone_is_named(gcs, both):
    file = _shard(gcs, both[1].name)
    whole = file.read_bytes()
    for content in (whole[: len(whole) // 2], whole[:100], b''):
        file.write_bytes(content)
        with pytest.raises(InputError, match=r'gs://bucket/.*-validation\S+-00000-of-00001 '):
            _load(both[1])
    file.unlink()
    with pytest.raises(InputError, match=r'gs://bucket/.*-validation\S+-00000-of-00001 cannot be opened'):
        _load(both[1])


def test_a_folder_of_images_is_read_from_a_bucket(gcs, tmp_path):
    rng = np.random.default_rng(0)
    for name in (
        'train/cat/1.jpg',
        'train/dog/2.JPEG',
        'train/dog/10.png',
        'train/eel/3.jpg',
        'val/dog/4.jpg',
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(tiny_imagenet.jpeg(rng))
    for name in ('train/dog/.5.jpg', 'train/dog/notes.txt', 'train/.git/6.jpg'):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text('no image')
    gcs.upload(tmp_path, 'folder')
    for split in ('train', 'val'):
        source, expected = (
            load_source('folder', name='', directory=str(directory), split=split)
            for directory in (BUCKET / 'folder', tmp_path)
        )
        _assert_same_examples(source, expected)
        assert source.class_names == ('cat', 'dog', 'eel')
    assert source.describe(0) == 'gs://bucket/folder/val/dog/4.jpg'


def test_tars_are_read_from_a_bucket_and_their_index_is_kept_there_if_it_may_be_written(
    gcs, tmp_path, monkeypatch
):
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
    data, cache = tmp_path / 'data', tmp_path / 'cache/nfnets/tars'
    tars.write_digits(data, 'train', shards=2, examples_per_shard=5)
    places = ('tars', 'read-only/tars')
    for place in places:
        gcs.upload(data, place)
    expected = load_source('webdataset', name='', directory=str(data), split='train')
    for place in [*places, *places]:  # An index that was made is read.
        source = load_source('webdataset', name='', directory=str(BUCKET / place), split='train')
        _assert_same_examples(source, expected)
        assert source.warnings == (expected.warnings[0].replace(str(data), str(BUCKET / place)),)
    assert source.describe(0) == f'digit_0000.webp in {BUCKET}/read-only/tars/digits-train-0000.tar'
    assert [name for name in gcs.names() if name.endswith('.index')] == [
        f'tars/digits-train-{shard:04}.tar.index' for shard in range(2)
    ]
    assert len(list(cache.iterdir())) == 2


@pytest.mark.usefixtures('gcs')
@pytest.mark.parametrize(
    ('kind', 'directory', 'message'),
    [
        ('folder', 'gs://bucket/none', r'data\.dir=gs://bucket/none is no folder'),
        ('folder', 'gs://forbidden/data', r'data\.dir=gs://forbidden/data cannot be read: .*403'),
        ('webdataset', 'gs://bucket/none', r'data\.dir=gs://bucket/none is no folder'),
        ('tfds', 'gs://bucket/none', r'is not prepared in data\.dir=gs://bucket/none'),
        ('tfds', 'gs://forbidden/data', r'data\.name=imagenet2012: .*403'),
    ],
)
def test_data_that_cannot_be_read_is_named(kind, directory, message):
    with pytest.raises(InputError, match=message):
        load_source(kind, name='imagenet2012', directory=directory, split='train')


@pytest.mark.usefixtures('gcs')
def test_a_workdir_that_cannot_be_used_is_named():
    with pytest.raises(InputError, match=r'workdir gs://forbidden/run cannot be used: .*403'):
        training_runs.train(epath.Path('gs://forbidden/run'), training_runs.TINY)
    with pytest.raises(InputError, match=r'gs://forbidden/run cannot be used: .*403'):
        Checkpoints(epath.Path('gs://forbidden/run'), keep=1)


@pytest.mark.usefixtures('gcs')
def test_a_package_that_orbax_needs_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, 'google.cloud.storage', None)
    with pytest.raises(InputError, match='pip install google-cloud-storage'):
        Checkpoints(BUCKET / 'none', keep=1)


@pytest.mark.parametrize('form', ['npz', 'timm', 'released'])
def test_files_of_parameters_are_written_to_and_read_from_a_bucket(form, gcs):
    params, path = tiny_network.params(), BUCKET / form / 'weights'
    save_checkpoint(path, form, params, About())
    read = load_checkpoint(path)
    tiny_network.assert_same(read.params, params)
    assert read.sha256 == hashlib.sha256(gcs.file(f'{form}/weights').read_bytes()).hexdigest()
    with pytest.raises(InputError, match='exists already'):
        save_checkpoint(path, form, params, About())


@pytest.mark.usefixtures('gcs')
@pytest.mark.parametrize(
    ('path', 'message'), [('gs://bucket/none.npz', 'not found'), ('gs://forbidden/x.npz', '403')]
)
def test_a_file_that_cannot_be_read_is_named(path, message):
    with pytest.raises(InputError, match=rf'{path} cannot be read: .*{message}'):
        load_checkpoint(path)


@pytest.mark.usefixtures('gcs')
def test_what_cannot_be_written_is_named():
    with pytest.raises(InputError, match=r'gs://bucket/read-only/x\.npz cannot be written: .*403'):
        save_checkpoint(BUCKET / 'read-only' / 'x.npz', 'npz', tiny_network.params(), About())
    with (
        contextlib.closing(MetricsWriter(BUCKET / 'read-only', 0)) as writer,
        pytest.raises(TrainingStopped, match=r'metrics of step 7 cannot be written: .*403'),
    ):
        writer.write(7, {'train/loss': 1.0})


@pytest.mark.usefixtures('gcs')
@pytest.mark.parametrize(
    'look',
    [
        read_config,
        whole_steps,
        lambda path: read_points(path / 'points.jsonl'),
        lambda path: save_checkpoint(path / 'x.npz', 'npz', tiny_network.params(), About()),
        lambda path: MetricsWriter(path, 0),
    ],
)
def test_a_bucket_that_may_not_be_read_costs_one_line(look, capsys):
    with pytest.raises(SystemExit) as stopped:
        run(lambda argv: look(epath.Path('gs://forbidden/run')), [])
    assert stopped.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert '403' in line


def test_what_may_pass_ends_a_run_to_be_started_again_and_is_no_damage(gcs, monkeypatch, capsys):
    directory = BUCKET / 'passing' / 'checkpoints'
    with contextlib.closing(Checkpoints(directory, keep=2)) as checkpoints:
        checkpoints.save(_state(1), position=10)
    names = gcs.names('passing/')

    def unavailable(*arguments):
        raise ValueError('UNAVAILABLE: no answer')

    with contextlib.closing(Checkpoints(directory, keep=2)) as checkpoints:
        monkeypatch.setattr(checkpoints, '_read', unavailable)
        with pytest.raises(TrainingStopped, match=r'checkpoint 1 in gs://bucket/passing/.* no answer'):
            checkpoints.restore(_state(0))
    assert gcs.names('passing/') == names
    for error, status in {
        tf.errors.UnavailableError(None, None, 'no answer'): 1,
        tf.errors.PermissionDeniedError(None, None, 'no answer'): 2,
    }.items():

        def fail(argv, error=error):
            raise error

        with pytest.raises(SystemExit) as stopped:
            run(fail, [])
        assert stopped.value.code == status
        assert capsys.readouterr().err.splitlines() == ['error: no answer']


def test_a_folder_below_a_class_is_refused_in_a_bucket(gcs, tmp_path):
    (tmp_path / 'train' / 'cat' / 'more').mkdir(parents=True)
    for name in ('1.jpg', 'more/2.jpg'):
        (tmp_path / 'train' / 'cat' / name).write_bytes(tiny_imagenet.jpeg(np.random.default_rng(0)))
    gcs.upload(tmp_path, 'nested')
    with pytest.raises(InputError, match='gs://bucket/nested/train/cat/more is a folder'):
        load_source('folder', name='', directory='gs://bucket/nested', split='train')


def test_a_trace_is_written_to_a_bucket(gcs):
    profile = Profile(BUCKET / 'traced', first_step=1, num_steps=1)
    for step in range(1, 5):
        profile.before(step)
        profile.after(step, {'loss': jax.jit(jnp.sum)(jnp.arange(step))})
    assert any(name.endswith('.xplane.pb') for name in gcs.names('traced/plugins/profile/'))
