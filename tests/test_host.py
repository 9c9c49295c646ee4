"""What a script finds in its environment on a CPU, and when it is left alone."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from jaxlib import version

from nfnets import host

ROOT = Path(__file__).resolve().parents[1]
PROGRAM = """
import json, os, sys
from nfnets import host
host.tune()
print(json.dumps([dict(os.environ), sys.argv]))
"""
NAMES = (
    'XLA_FLAGS',
    'GLIBC_TUNABLES',
    'MALLOC_MMAP_MAX_',
    'MALLOC_TRIM_THRESHOLD_',
)


def _run(program, **environment):
    clean = {name: value for name, value in os.environ.items() if name not in (*NAMES, 'NFNETS_HOST')}
    return subprocess.run(
        [sys.executable, '-W', 'error', '-c', program, 'an argument', '--config.x=1'],
        env={**clean, 'PYTHONPATH': str(ROOT), **environment},
        capture_output=True,
        text=True,
        check=True,
    )


def test_a_process_starts_anew_once_with_the_settings_and_its_arguments_and_says_so():
    run = _run(PROGRAM, XLA_FLAGS='--xla_force_host_platform_device_count=3', MALLOC_MMAP_MAX_='7')
    environment, arguments = json.loads(run.stdout)
    assert arguments == ['-c', 'an argument', '--config.x=1']
    flags = '--xla_force_host_platform_device_count=3 --xla_cpu_experimental_ynn_fusion_type='
    assert environment['XLA_FLAGS'] == flags + '-individual_convolution'
    assert environment['GLIBC_TUNABLES'] == 'glibc.malloc.hugetlb=1'
    assert environment['MALLOC_MMAP_MAX_'] == '7'
    assert run.stderr.count('CPU settings: ') == 1


@pytest.mark.parametrize(
    'before', ['os.environ["NFNETS_HOST"] = "as-is"', 'host._has_accelerator = lambda: True']
)
def test_a_process_is_left_alone_if_told_so_or_beside_an_accelerator(before):
    run = _run(PROGRAM.replace('host.tune()', f'{before}; host.tune()'))
    assert not set(NAMES) & set(json.loads(run.stdout)[0])
    assert not run.stderr


def test_xla_is_told_nothing_that_it_may_not_know(monkeypatch):
    assert 'XLA_FLAGS' in host.settings({})
    assert 'XLA_FLAGS' not in host.settings({'XLA_FLAGS': '--xla_cpu_experimental_ynn_fusion_type=dot'})
    for unknown in ((0, 9, 2), (0, 13, 0), (1, 0, 0)):
        monkeypatch.setattr(version, '__version_info__', unknown)
        assert 'XLA_FLAGS' not in host.settings({})


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
