"""Files are written whole or not at all, and failures of a bucket are distinguished from invalid paths."""

import pytest

from nfnets.errors import InputError, TrainingStopped
from nfnets.files import as_path, failure, replace_file, replacing


def test_a_file_that_is_not_finished_leaves_the_old_one_and_nothing_else(tmp_path):
    path = tmp_path / 'config.json'
    path.write_text('old')

    def write_half():
        with replacing(path) as draft:
            draft.write_text('ne')
            assert path.read_text() == 'old'
            raise OSError('disk full')

    with pytest.raises(OSError, match='disk full'):
        write_half()
    assert path.read_text() == 'old'
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_is_replaced_by_another_and_not_written_over(tmp_path):
    path = tmp_path / 'config.json'
    path.write_text('old')
    with path.open() as reader:
        replace_file(path, 'new and longer')
        assert reader.read() == 'old'  # Whoever reads has one or the other.
    assert path.read_text() == 'new and longer'
    assert list(tmp_path.iterdir()) == [path]


def test_two_writers_of_a_file_do_not_meet(tmp_path):
    path = tmp_path / 'class_names.json'
    with replacing(path) as first, replacing(path) as second:
        first.write_text('first')
        second.write_text('second')
    assert path.read_text() == 'first'  # Whoever ends last has it, whole.
    assert list(tmp_path.iterdir()) == [path]


def test_a_writer_that_is_interrupted_leaves_nothing_behind(tmp_path):
    def interrupted():
        with replacing(tmp_path / 'config.json') as draft:
            draft.write_text('half')
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize('path', ['https://host/F0.npz', 's3://bucket/run', 'file:///data'])
def test_a_path_of_a_kind_that_is_not_read_is_named(path):
    with pytest.raises(InputError, match=f'{path} cannot be used: give a path on a disk or gs://'):
        as_path(path)


def test_paths_on_a_disk_and_in_a_bucket_stay_what_they_are():
    assert str(as_path('runs/digits')) == 'runs/digits'
    assert str(as_path('gs://bucket/run')) == 'gs://bucket/run'


@pytest.mark.parametrize(
    ('error', 'kind'),
    [
        (ValueError('UNAVAILABLE: HTTP response code: 503'), TrainingStopped),
        (ValueError('NOT_FOUND: HTTP response code: 404'), InputError),
        (PermissionError(13, 'Permission denied'), InputError),
    ],
)
def test_only_what_may_pass_is_worth_another_try(error, kind):
    message = failure('x cannot be read', error)
    assert type(message) is kind
    assert str(message) == 'x cannot be read'
