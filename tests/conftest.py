"""What every test runs under: eight CPU devices, and settings that turn silent mistakes into errors."""

import os
import tempfile

# Before JAX starts: several devices, so that a forgotten reduction shows; no accelerator, so that
# the numbers do not depend on the machine.
os.environ['JAX_PLATFORMS'] = 'cpu'
os.environ['TF_CPP_MIN_LOG_LEVEL'] = '3'
os.environ['XLA_FLAGS'] = os.environ.get('XLA_FLAGS', '') + ' --xla_force_host_platform_device_count=8'

import jax
import pytest

from nfnets import host

# As the scripts run, and faster.
os.environ['XLA_FLAGS'] = host.settings(os.environ).get('XLA_FLAGS', os.environ['XLA_FLAGS'])
if 'PYTEST_XDIST_WORKER' not in os.environ:  # Its processes share what the first one makes.
    # The scripts that tests start keep compiled programs: here, until the tests end.
    _cache = tempfile.TemporaryDirectory()
    os.environ['XDG_CACHE_HOME'] = _cache.name
os.environ.pop('JAX_COMPILATION_CACHE_DIR', None)
jax.config.update('jax_numpy_rank_promotion', 'raise')


def pytest_addoption(parser):
    parser.addoption('--long', action='store_true', help='faults: as often and as large as takes minutes')


@pytest.fixture(scope='session')
def undisturbed(tmp_path_factory):
    """(workdir, output) of a whole run of `training_runs.TINY`."""
    import training_runs  # After the settings above.

    workdir = tmp_path_factory.mktemp('undisturbed') / 'run'
    return workdir, training_runs.finish(training_runs.start(workdir, training_runs.TINY))


@pytest.fixture(scope='session')
def f0_gradients():
    """(loss, logits, gradients) of F0 in float32, see `golden_numbers.f0_gradients`."""
    import golden_numbers

    return golden_numbers.f0_gradients()


@pytest.fixture(scope='session')
def f0_gradients_float64():
    """The same in float64."""
    import golden_numbers

    with jax.enable_x64(True):
        return golden_numbers.f0_gradients('float64')
