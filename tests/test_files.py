"""Files are written whole or not at all, and failures of a bucket are told from mistakes."""

import pytest

from nfnets.errors import InputError, TrainingStopped
from nfnets.files import failure, replace_file, replacing


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


@pytest.mark.parametrize(
    ('error', 'kind'),
    [
        (ValueError('UNAVAILABLE: HTTP response code: 503'), TrainingStopped),
        (ValueError('NOT_FOUND: HTTP response code: 404'), InputError),
        (PermissionError(13, 'Permission denied'), InputError),
    ],
)
def test_only_what_may_pass_is_worth_another_try(error, kind):
    told = failure('x cannot be read', error)
    assert type(told) is kind
    assert str(told) == 'x cannot be read'
