"""What every test runs under: eight CPU devices, and settings that turn silent mistakes into errors."""

import os
import tempfile

# Before JAX starts: several devices, so that a forgotten reduction shows; no accelerator, so that
# the numbers do not depend on the machine.
os.environ['JAX_PLATFORMS'] = 'cpu'
os.environ['TF_CPP_MIN_LOG_LEVEL'] = '3'
# Small networks that run a few steps compile longer than they compute. For programs that tests start, too.
os.environ['JAX_DISABLE_MOST_OPTIMIZATIONS'] = 'true'
os.environ['XLA_FLAGS'] = os.environ.get('XLA_FLAGS', '') + ' --xla_force_host_platform_device_count=8'

import jax
import pytest

from nfnets import host

# As the scripts run, and faster.
os.environ['XLA_FLAGS'] = host.settings(os.environ).get('XLA_FLAGS', os.environ['XLA_FLAGS'])
if 'PYTEST_XDIST_WORKER' not in os.environ:  # Its processes share what the first one makes.
    # Compiled programs are kept here until the tests end, those of the scripts that tests start, too.
    _cache = tempfile.TemporaryDirectory()
    os.environ['XDG_CACHE_HOME'] = _cache.name
os.environ.pop('JAX_COMPILATION_CACHE_DIR', None)
host.keep_compiled()
jax.config.update('jax_numpy_rank_promotion', 'raise')


def pytest_addoption(parser):
    parser.addoption('--long', action='store_true', help='faults: as often and as large as takes minutes')


def pytest_collection_modifyitems(items):
    # What takes minutes begins first, so that no process is left with it at the end.
    longest = ('test_pods.py', 'test_train.py', 'test_gcs.py', 'test_golden_f0.py')
    items.sort(key=lambda item: item.path.name not in longest)


@pytest.fixture(scope='session')
def undisturbed(tmp_path_factory):
    """(workdir, output) of a whole run of `training_runs.TINY`."""
    import training_runs  # After the settings above.

    workdir = tmp_path_factory.mktemp('undisturbed') / 'run'
    return workdir, training_runs.finish(training_runs.start(workdir, training_runs.TINY))
