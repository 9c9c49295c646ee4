"""What is set for the whole process before anything is computed.

`docs/performance.md` has what each setting was measured to bring.
"""

import importlib.metadata
import importlib.util
import os
import sys
from collections.abc import Mapping
from pathlib import Path

import jax
from jaxlib import version as jaxlib_version

_TUNED = 'NFNETS_HOST'  # 'tuned' once this was done; 'as-is' by the user, to leave everything alone.
# XLA's newer convolutions (YNNPACK) are slower than its older ones (Eigen), above all for the gradients of
# kernels; everything else of YNNPACK is faster.
_XLA_FLAG = '--xla_cpu_experimental_ynn_fusion_type'
_XLA_VALUE = '-individual_convolution'
_XLA_KNOWN = ((0, 10), (0, 13))  # A flag that XLA does not know ends the process: from, and before.
# XLA takes and gives back all memory of a step: glibc keeps it, in huge pages, instead of asking for it anew.
_MEMORY = {
    'GLIBC_TUNABLES': 'glibc.malloc.hugetlb=1',
    'MALLOC_MMAP_MAX_': '0',
    'MALLOC_TRIM_THRESHOLD_': '-1',
}


def tune() -> None:
    """Starts this process anew, once, with the settings; call it first.

    It does nothing on other systems than Linux, beside an accelerator, or with NFNETS_HOST=as-is; a setting
    that the environment has already stays.
    """
    if os.environ.get(_TUNED) == 'tuned':
        # glibc can keep memory of that size for the main thread alone: a step must not run in another.
        jax.config.update('jax_cpu_enable_async_dispatch', False)
    if sys.platform != 'linux' or _TUNED in os.environ or _has_accelerator():
        return
    environment = settings(os.environ)
    told = ' '.join(f'{name}={value}' for name, value in environment.items())
    print(f'CPU settings: {told} ({_TUNED}=as-is for none)', file=sys.stderr, flush=True)
    environment = {**os.environ, **environment, _TUNED: 'tuned'}
    os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], environment)


def cache_directory() -> Path:
    """Where what took long is kept for the next time: $XDG_CACHE_HOME/nfnets or ~/.cache/nfnets."""
    return Path(os.environ.get('XDG_CACHE_HOME') or Path.home() / '.cache') / 'nfnets'


def keep_compiled() -> None:
    """Keeps compiled programs on disk, so that the next run of the same network starts sooner.

    In `cache_directory`; JAX_COMPILATION_CACHE_DIR is elsewhere, and JAX_ENABLE_COMPILATION_CACHE=false not
    at all. JAX keeps what took a second or more to compile.
    """
    if jax.config.jax_compilation_cache_dir is None:  # type: ignore[attr-defined]
        jax.config.update('jax_compilation_cache_dir', str(cache_directory()))


def settings(environment: Mapping[str, str]) -> dict[str, str]:
    """What the environment lacks of the settings."""
    lacking = {name: value for name, value in _MEMORY.items() if name not in environment}
    flags = environment.get('XLA_FLAGS', '')
    if _XLA_FLAG not in flags and _XLA_KNOWN[0] <= jaxlib_version.__version_info__[:2] < _XLA_KNOWN[1]:
        lacking['XLA_FLAGS'] = f'{flags} {_XLA_FLAG}={_XLA_VALUE}'.strip()
    return lacking


def _has_accelerator() -> bool:
    # Without asking JAX, which would take the accelerator.
    if os.environ.get('JAX_PLATFORMS') == 'cpu':
        return False
    plugins = importlib.metadata.entry_points(group='jax_plugins')
    return bool(plugins) or importlib.util.find_spec('libtpu') is not None
