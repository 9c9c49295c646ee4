"""What every test runs under: eight CPU devices, and settings that turn silent mistakes into errors."""

import fcntl
import gc
import os
import sys
import tempfile

# Before JAX starts: several devices, so that a forgotten reduction shows; no accelerator, so that
# the numbers do not depend on the machine.
os.environ['JAX_PLATFORMS'] = 'cpu'
os.environ['TF_CPP_MIN_LOG_LEVEL'] = '3'
# Small networks that run a few steps compile longer than they compute. For programs that tests start, too.
os.environ['JAX_DISABLE_MOST_OPTIMIZATIONS'] = 'true'
os.environ['JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS'] = '0.1'  # Equal programs are compiled once.
# A program notes the line that an operation is of, not the hundred calls that led there.
os.environ['JAX_TRACEBACK_IN_LOCATIONS_LIMIT'] = '1'
os.environ['XLA_FLAGS'] = os.environ.get('XLA_FLAGS', '') + ' --xla_force_host_platform_device_count=8'

import jax
import pytest

from nfnets import host

# As the commands run.
os.environ['XLA_FLAGS'] = host.xla_flags(os.environ['XLA_FLAGS'])
if host.xla_flags(''):  # An XLA that knows these flags, too.
    # Its newer code for the CPU takes twice as long to make, and programs cut up for many cores a quarter
    # longer.
    os.environ['XLA_FLAGS'] += ' --xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1'
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
    # What takes longest begins first, so that no process is left with it at the end; and of these, what needs
    # the `undisturbed` run begins far apart, lest one process waits while another makes it.
    first = (
        *('test_train.py', 'test_processes.py', 'test_golden_f0.py', 'test_resume.py', 'test_documents.py'),
        *('test_packaging.py', 'test_gcs.py', 'test_timm.py'),
    )
    places = {name: place for place, name in enumerate(first)}
    items.sort(key=lambda item: places.get(item.path.name, len(first)))


def pytest_collection_finish():
    # What was imported lives until the end: the collector need not look through it again and again.
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)


def pytest_sessionfinish():
    # Pytest is about to look ten times for what nobody uses any more; the first time finds it.
    gc.collect()
    gc.freeze()


@pytest.fixture
def form_for(monkeypatch):
    """Chooses, by a backend's name, among the forms that backends have of a computation."""

    def choose_for(platform):
        def choose(*args, default, **forms):
            return forms.get(platform, default)(*args)

        monkeypatch.setattr(jax.lax, 'platform_dependent', choose)

    return choose_for


@pytest.fixture(scope='session')
def made_once(tmp_path_factory):
    """Makes a directory by a function of it, once for all processes of the tests; to be read only."""
    shared = tmp_path_factory.getbasetemp()
    if 'PYTEST_XDIST_WORKER' in os.environ:
        shared = shared.parent

    def make(name, function):
        with (shared / f'{name}.lock').open('w') as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not (shared / name).exists():
                draft = shared / f'{name}.draft'
                draft.mkdir()
                function(draft)
                draft.rename(shared / name)
        return shared / name

    return make


@pytest.fixture(scope='session')
def undisturbed(made_once):
    """(workdir, output) of a whole run of `training_runs.TINY`, as a user starts it; to be read only."""
    import training_runs  # After the settings above.

    def run(directory):
        output = training_runs.finish(training_runs.start_anew(directory / 'run', training_runs.TINY))
        (directory / 'output').write_text(output.replace(str(directory), str(directory.with_suffix(''))))

    directory = made_once('undisturbed', run)
    return directory / 'run', (directory / 'output').read_text()


@pytest.fixture(scope='session')
def tiny_imagenet_tfrecords(made_once):
    """A data directory of TFDS with `tiny_imagenet`; to be read only."""
    import tiny_imagenet

    return made_once('tiny_imagenet_tfrecords', tiny_imagenet.prepare)


@pytest.fixture(scope='session')
def hub_process():
    """A fake of the Hugging Face hub, with huggingface_hub imported anew: it reads its environment then."""
    import fake_hub

    hub = fake_hub.FakeHub()
    for module in [name for name in sys.modules if name.partition('.')[0] == 'huggingface_hub']:
        del sys.modules[module]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv('HF_ENDPOINT', hub.endpoint)
        import huggingface_hub.constants
    yield hub
    huggingface_hub.close_session()
    hub.close()


@pytest.fixture
def hub_server(hub_process, monkeypatch, tmp_path):
    """The fake hub and bucket, empty, as is the cache."""
    import fake_hub
    from huggingface_hub import constants
    from huggingface_hub.utils import _cache_assets

    hub_process.reset()
    fake_hub.lead_to(hub_process.bucket, monkeypatch)
    monkeypatch.setattr(constants, 'HF_HUB_CACHE', str(tmp_path / 'hub'))
    monkeypatch.setattr(_cache_assets, 'HF_ASSETS_CACHE', str(tmp_path / 'assets'))
    monkeypatch.setattr(constants, 'HF_TOKEN_PATH', str(tmp_path / 'token'))
    monkeypatch.setattr(constants, 'HF_HUB_DISABLE_XET', True)  # Its protocol is not played.
    return hub_process


@pytest.fixture
def as_process(monkeypatch):
    """Lets what is called next believe that it runs in one of several processes."""

    def pretend(index, count):
        monkeypatch.setattr(jax, 'process_index', lambda: index)
        monkeypatch.setattr(jax, 'process_count', lambda: count)

    return pretend
