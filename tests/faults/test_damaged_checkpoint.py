"""A checkpoint that is not as it was written."""

import shutil

import pytest
import training_runs

from nfnets import load_checkpoint
from nfnets.errors import InputError


def _flip_a_bit(file):
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def _cut_short(file):
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


@pytest.fixture(params=[_flip_a_bit, _cut_short])
def damaged(request, undisturbed, tmp_path):
    """A copy of a run whose last checkpoint is damaged in its largest file, that of the arrays."""
    workdir = tmp_path / 'run'
    shutil.copytree(undisturbed[0], workdir)
    files = (workdir / 'checkpoints' / '12' / 'state').rglob('d/*')
    request.param(max(files, key=lambda file: file.stat().st_size))
    return workdir


@pytest.mark.filterwarnings('ignore::pytest.PytestUnraisableExceptionWarning')  # Of Orbax's threads.
def test_the_one_before_is_used_with_a_warning(damaged, undisturbed, capfd):
    training_runs.train(damaged, training_runs.TINY)
    message = capfd.readouterr().out
    assert 'resuming from step 8\n' in message
    assert 'checkpoint 12 is damaged' in message
    training_runs.assert_equal(damaged, undisturbed[0])


@pytest.mark.filterwarnings('ignore::pytest.PytestUnraisableExceptionWarning')
def test_no_parameters_are_taken_from_it(damaged):
    with pytest.raises(InputError, match=r'checkpoint 12 in .* cannot be read'):
        load_checkpoint(damaged)
