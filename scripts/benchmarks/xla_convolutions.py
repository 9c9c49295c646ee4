"""Convolutions as XLA itself computes them on a CPU, to compare with the forms that `nfnets` has for one."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

from jax.interpreters import mlir

from nfnets.models import convolution

_PRIMITIVES = (convolution.convolve_p, convolution.to_input_p, convolution.to_kernel_p)
_CPU = (convolution._cpu, convolution._cpu_to_input, convolution._cpu_to_kernel)
_XLA = (convolution.xla_convolution, convolution._xla_to_input, convolution._xla_to_kernel)


@contextlib.contextmanager
def xla_convolutions() -> Iterator[None]:
    """Programs that are lowered for a CPU inside this context have XLA's own convolutions, as on a TPU."""
    _register(_XLA)
    try:
        yield
    finally:
        _register(_CPU)


def _register(forms: tuple[Callable[..., Any], ...]) -> None:
    for primitive, form in zip(_PRIMITIVES, forms, strict=True):
        mlir.register_lowering(primitive, mlir.lower_fun(form, multiple_results=False), platform='cpu')
