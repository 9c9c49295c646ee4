"""An example that cannot be read for once, in the middle of training."""

import errno
import os

import numpy as np
import pytest
import training_runs

from nfnets.data.digits import DigitsSource
from nfnets.data.order import Order
from nfnets.errors import InputError, TrainingStopped

NUM_EXAMPLES = 1437
(EXAMPLE,) = Order(NUM_EXAMPLES, seed=0)(np.array([7 * 64 + 5])).tolist()  # In the batch of step 8.
IO_ERROR = OSError(errno.EIO, os.strerror(errno.EIO))


@pytest.fixture
def failing(monkeypatch):
    """Makes the reading of one training example fail until the returned function is called."""
    read = DigitsSource.read

    def start(error):
        def fail(self, index):
            if len(self) == NUM_EXAMPLES and index == EXAMPLE:
                raise error
            return read(self, index)

        monkeypatch.setattr(DigitsSource, 'read', fail)
        return monkeypatch.undo

    return start


def _train(workdir, **changed):
    return training_runs.train(workdir, {**training_runs.TINY, **changed})


def _steps(workdir):
    return sorted(int(path.name) for path in (workdir / 'checkpoints').iterdir())


def _assert_goes_on(workdir, step, undisturbed, capfd):
    capfd.readouterr()
    _train(workdir)
    assert f'resuming from step {step}\n' in capfd.readouterr().out
    training_runs.assert_equal(workdir, undisturbed[0])
    assert training_runs.metrics(workdir) == training_runs.metrics(undisturbed[0])


def test_an_error_of_the_disk_saves_names_the_example_and_ends_bit_equal_once_it_is_over(
    failing, undisturbed, tmp_path, capfd
):
    mend = failing(IO_ERROR)
    with pytest.raises(InputError) as ended:
        _train(tmp_path / 'run')
    name = DigitsSource('train').describe(EXAMPLE)
    assert str(ended.value) == f'{name} cannot be read: {IO_ERROR}; saved at step 7'
    assert _steps(tmp_path / 'run') == [4, 7]
    assert [x['step'] for x in training_runs.metrics(tmp_path / 'run') if 'train/loss' in x][-1] == 7
    mend()
    _assert_goes_on(tmp_path / 'run', 7, undisturbed, capfd)


# Skipped would be what a run with more memory trains on.
def test_a_lack_of_memory_is_no_broken_image_and_ends_bit_equal_once_it_is_over(
    failing, undisturbed, tmp_path, capfd
):
    mend = failing(MemoryError())
    with pytest.raises(TrainingStopped) as ended:
        _train(tmp_path / 'run', **{'data.skip_broken': True})
    name = DigitsSource('train').describe(EXAMPLE)
    assert str(ended.value) == f'{name} cannot be read: out of memory of the host; last checkpoint: 4'
    assert _steps(tmp_path / 'run') == [4]
    mend()
    _assert_goes_on(tmp_path / 'run', 4, undisturbed, capfd)


def test_an_error_of_the_disk_is_counted_where_what_is_broken_is_skipped(
    failing, undisturbed, tmp_path, capfd
):
    failing(IO_ERROR)
    _train(tmp_path / 'run', **{'data.skip_broken': True})
    lines, expected = training_runs.metrics(tmp_path / 'run'), training_runs.metrics(undisturbed[0])
    assert [x['train/skipped_images'] for x in lines if 'eval/loss' in x] == [0, 1]
    assert 'broken images skipped in training since the start: 1\n' in capfd.readouterr().out
    losses, expected = ([x['train/loss'] for x in each if 'train/loss' in x] for each in (lines, expected))
    assert losses[:7] == expected[:7]
    assert losses[7] != expected[7]  # Another image took its place.
