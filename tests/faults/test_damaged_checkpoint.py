"""A checkpoint that is not as it was written."""

import shutil

import pytest
import training_runs

from nfnets import load_checkpoint
from nfnets.errors import InputError
from nfnets.run.checkpoint import is_damage


def _cut_short(file):
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 8])


def _garble_what_is_compressed(file):
    content = bytearray(file.read_bytes())
    block = content.index(bytes.fromhex('28b52ffd')) + 6  # After the header of a frame of Zstandard.
    content[block : block + 8] = b'\xff' * 8  # No block has such a header.
    file.write_bytes(content)


@pytest.fixture(params=[training_runs.flip_a_bit, _cut_short, _garble_what_is_compressed])
def damaged(request, undisturbed, tmp_path):
    """A copy of a run whose last checkpoint is damaged in each file of arrays."""
    workdir = tmp_path / 'run'
    shutil.copytree(undisturbed[0], workdir)
    for file in training_runs.array_files(workdir, step=12):
        request.param(file)
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


def test_a_lack_of_memory_for_decompressing_is_no_damage():
    said = 'FAILED_PRECONDITION: Error reading "x": ZSTD_decompressStream() failed: {}'
    assert is_damage(ValueError(said.format('Data corruption detected')))
    assert not is_damage(ValueError(said.format('Allocation error : not enough memory')))
