"""What a script finds in its environment on a CPU, and when it is left alone."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from jaxlib import version

from nfnets import host
from nfnets.run import processes

ROOT = Path(__file__).resolve().parents[1]
FLAG = '--xla_cpu_experimental_ynn_fusion_type=-individual_convolution'
# Prints XLA's flags, and the MiB that stay with the process of 64 that it frees.
PROGRAM = """
import os
import numpy as np
from nfnets import host

def resident():
    return int(open('/proc/self/statm').read().split()[1]) * os.sysconf('SC_PAGE_SIZE') / 2**20

host.tune()
array = np.ones(8 << 20)
before = resident()
del array
print(os.environ.get('XLA_FLAGS', ''), 64 - before + resident(), sep='|')
"""


def _run(program, **environment):
    clean = {name: value for name, value in os.environ.items() if name not in ('XLA_FLAGS', 'NFNETS_HOST')}
    return subprocess.run(
        [sys.executable, '-W', 'error', '-c', program],
        env={**clean, **environment},
        capture_output=True,
        text=True,
        check=True,
    )


def test_xla_gets_its_flag_and_glibc_keeps_memory():
    flags, kept = _run(PROGRAM, XLA_FLAGS='--xla_force_host_platform_device_count=3').stdout.split('|')
    assert flags == f'--xla_force_host_platform_device_count=3 {FLAG}'
    assert float(kept) > 60


@pytest.mark.parametrize(
    'before', ['os.environ["NFNETS_HOST"] = "as-is"', 'host._has_accelerator = lambda: True']
)
def test_a_process_is_left_as_it_is_on_request_or_beside_an_accelerator(before):
    flags, kept = _run(PROGRAM.replace('host.tune()', f'{before}; host.tune()')).stdout.split('|')
    assert flags == ''
    assert float(kept) < 4


def test_xla_gets_no_flag_that_it_may_not_know(monkeypatch):
    assert host.xla_flags('') == FLAG
    own = '--xla_cpu_experimental_ynn_fusion_type=dot'
    assert host.xla_flags(own) == own
    for unknown in ((0, 9, 2), (0, 13, 0), (1, 0, 0)):
        monkeypatch.setattr(version, '__version_info__', unknown)
        assert host.xla_flags('--x') == '--x'


@pytest.mark.parametrize(
    ('given', 'directory'), [({}, 'HOME/nfnets'), ({'JAX_COMPILATION_CACHE_DIR': 'elsewhere'}, 'elsewhere')]
)
def test_compiled_programs_are_kept_on_disk_where_the_user_says(tmp_path, given, directory):
    program = """
import jax
from nfnets import host
host.keep_compiled()
jax.config.update('jax_persistent_cache_min_compile_time_secs', 0)
jax.jit(lambda x: x * 3)(1.0)
"""
    expected = tmp_path / directory
    given = {name: str(expected) for name in given}
    _run(program, JAX_PLATFORMS='cpu', XDG_CACHE_HOME=str(tmp_path / 'HOME'), **given)
    assert [path.name[:4] for path in expected.glob('*-cache')] == ['jit_']


@pytest.fixture
def machine(monkeypatch, tmp_path):
    """A machine with libtpu installed, and the devices that a test puts into it."""
    for name in ('dev', 'pci'):
        (tmp_path / name).mkdir()
    monkeypatch.setattr(host, '_DEV', tmp_path / 'dev')
    monkeypatch.setattr(host, '_PCI', tmp_path / 'pci')
    monkeypatch.setattr(host.importlib.util, 'find_spec', lambda name: name == 'libtpu')
    monkeypatch.delenv('JAX_PLATFORMS', raising=False)
    return tmp_path


def _add_pci(machine, vendor, device):
    path = machine / 'pci' / f'0000:00:{device[2:]}'
    path.mkdir()
    (path / 'vendor').write_text(vendor + '\n')
    (path / 'device').write_text(device + '\n')


def test_libtpu_alone_is_no_tpu(machine):
    _add_pci(machine, '0x1ae0', '0x0042')  # Google's network card.
    assert not host.has_tpu()
    assert not host._has_accelerator()
    processes.join(None, None, None)  # As `scripts/train.py` without flags: does not look for a slice.


@pytest.mark.parametrize('status', [0, 2])
def test_beside_libtpu_alone_a_process_ends_without_waiting_for_libraries(status, tmp_path):
    (tmp_path / 'libtpu.py').touch()
    program = f"""
import atexit, time
from nfnets import host
atexit.register(time.sleep, 60)
print('all', end='')
host.leave({status})
"""
    environment = {**os.environ, 'PYTHONPATH': f'{tmp_path}:{ROOT}', 'JAX_PLATFORMS': 'cpu'}
    run = subprocess.run(
        [sys.executable, '-c', program],
        env=environment,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (run.returncode, run.stdout) == (status, 'all')


def test_a_tpu_is_found_by_its_device(machine, monkeypatch):
    _add_pci(machine, '0x1ae0', '0x0063')
    assert host.has_tpu()
    monkeypatch.setenv('JAX_PLATFORMS', 'cpu')
    assert not host.has_tpu()


def test_a_tpu_is_found_by_its_driver_or_the_users_word(machine, monkeypatch):
    (machine / 'dev' / 'accel0').touch()
    assert host.has_tpu()
    (machine / 'dev' / 'accel0').unlink()
    monkeypatch.setenv('JAX_PLATFORMS', 'tpu,cpu')
    assert host.has_tpu()


def test_a_plugin_for_gpus_alone_is_no_gpu(machine, monkeypatch):
    monkeypatch.setattr(host.importlib.metadata, 'entry_points', lambda group: ['xla_cuda13'])
    assert not host._has_accelerator()
    (machine / 'dev' / 'nvidiactl').touch()
    assert host._has_accelerator()


def test_the_digest_of_the_code_is_of_its_content(tmp_path, monkeypatch):
    package = tmp_path / 'nfnets'
    shutil.copytree(Path(host.__file__).parent, package)
    before = host.code_digest()
    monkeypatch.setattr(host, '__file__', str(package / 'host.py'))
    assert host.code_digest() == before
    with (package / 'losses.py').open('a') as file:
        file.write('# Another line.\n')
    assert host.code_digest() != before
