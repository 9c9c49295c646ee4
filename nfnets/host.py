"""Settings of the whole process, made before anything is computed.

`docs/performance.md` has what each setting was measured to bring.
"""

import ctypes
import hashlib
import importlib.metadata
import importlib.util
import os
import sys
from pathlib import Path
from typing import NoReturn

import jax
from jaxlib import version as jaxlib_version

_SWITCH = 'NFNETS_HOST'  # 'as-is' by the user, to leave everything alone.
# XLA's newer convolutions (YNNPACK) are slower than its older ones (Eigen), above all for the gradients of
# kernels; everything else of YNNPACK is faster.
_XLA_FLAG = '--xla_cpu_experimental_ynn_fusion_type'
_XLA_VALUE = '-individual_convolution'
_XLA_KNOWN = ((0, 10), (0, 13))  # A flag that XLA does not know ends the process: from, and before.
_DEV, _PCI = Path('/dev'), Path('/sys/bus/pci/devices')
# Vendor and device of v3, v4 (two), v5p, v5e, v6e and v7x, as JAX knows them.
_TPU_DEVICES = frozenset(
    ('0x1ae0', device) for device in ('0x0027', '0x0056', '0x005e', '0x0062', '0x0063', '0x006f', '0x0076')
)
# Of NVIDIA, of NVIDIA under Windows, and of AMD.
_GPU_DRIVERS = ('nvidiactl', 'nvidia0', 'dxg', 'kfd')
# Of glibc's mallopt, and of madvise.
_M_TRIM_THRESHOLD, _M_MMAP_MAX, _MADV_HUGEPAGE = -1, -4, 14
_HEAP = 4 << 30  # Bytes of addresses, not of memory: about what a step of F0 with 32 images takes.


def tune() -> None:
    """Sets what makes a CPU fast; call it before JAX computes anything.

    It does nothing on other systems than Linux, beside an accelerator, or with NFNETS_HOST=as-is.
    """
    if sys.platform != 'linux' or os.environ.get(_SWITCH) == 'as-is' or _has_accelerator():
        return
    if flags := xla_flags(os.environ.get('XLA_FLAGS', '')):
        os.environ['XLA_FLAGS'] = flags
    _keep_memory()
    # glibc can keep memory of that size for the main thread alone: a step must not run in another.
    jax.config.update('jax_cpu_enable_async_dispatch', False)


def xla_flags(given: str) -> str:
    """XLA's flags with what they lack of ours; as they are where this XLA may not know it."""
    if _XLA_FLAG in given or not _XLA_KNOWN[0] <= jaxlib_version.__version_info__[:2] < _XLA_KNOWN[1]:
        return given
    return f'{given} {_XLA_FLAG}={_XLA_VALUE}'.strip()


def _keep_memory() -> None:
    """Makes glibc keep freed memory, in huge pages: XLA takes and returns all memory of a step each time."""
    libc = ctypes.CDLL(None)
    if not hasattr(libc, 'mallopt'):
        return
    libc.mallopt(_M_MMAP_MAX, 0)
    libc.mallopt(_M_TRIM_THRESHOLD, -1)
    libc.malloc.restype = ctypes.c_void_p
    address = libc.malloc(ctypes.c_size_t(_HEAP))
    if address:
        page = os.sysconf('SC_PAGE_SIZE')
        first = -(-address // page) * page
        libc.madvise(ctypes.c_void_p(first), ctypes.c_size_t(_HEAP - page), _MADV_HUGEPAGE)
        libc.free(ctypes.c_void_p(address))


def cache_directory() -> Path:
    """The directory of cached results and compiled programs: $XDG_CACHE_HOME/nfnets or ~/.cache/nfnets."""
    return Path(os.environ.get('XDG_CACHE_HOME') or Path.home() / '.cache') / 'nfnets'


def keep_compiled() -> None:
    """Keeps compiled programs on disk, so that the next run of the same network starts sooner.

    In `cache_directory`; JAX_COMPILATION_CACHE_DIR is elsewhere, and JAX_ENABLE_COMPILATION_CACHE=false not
    at all. JAX keeps what took a second or more to compile.
    """
    if jax.config.jax_compilation_cache_dir is None:  # type: ignore[attr-defined]
        jax.config.update('jax_compilation_cache_dir', str(cache_directory()))


def has_tpu() -> bool:
    """Whether this machine has a TPU, by its devices: JAX itself would take it.

    libtpu may be installed without one, for its compiler.
    """
    if importlib.util.find_spec('libtpu') is None:
        return False
    if platforms := os.environ.get('JAX_PLATFORMS'):
        return 'tpu' in platforms.split(',')  # By the user's word.
    return any(_DEV.glob('accel*')) or any(_pci_device(path) in _TPU_DEVICES for path in _PCI.glob('*'))


def leave(status: int) -> NoReturn:
    """Ends the process with an exit status, and without what libraries do at the end if that would hang.

    libtpu without a TPU, beside TensorFlow, was seen to wait forever once all of Python had ended.
    """
    if importlib.util.find_spec('libtpu') is not None and not has_tpu():
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    sys.exit(status)


def _has_accelerator() -> bool:
    if os.environ.get('JAX_PLATFORMS') == 'cpu':
        return False
    plugins = importlib.metadata.entry_points(group='jax_plugins')
    return has_tpu() or (bool(plugins) and any((_DEV / name).exists() for name in _GPU_DRIVERS))


def _pci_device(path: Path) -> tuple[str, ...]:
    try:
        return tuple((path / name).read_text().strip() for name in ('vendor', 'device'))
    except OSError:
        return ()


def code_digest() -> str:
    """A digest of this package's own code, 12 hexadecimal digits."""
    root = Path(__file__).parent
    digest = hashlib.sha256()
    for path in sorted(root.rglob('*.py')):
        digest.update(f'{path.relative_to(root)}\0'.encode() + path.read_bytes())
    return digest.hexdigest()[:12]
