"""Estimates weight standardization on a TPU: its derivative written by hand beside automatic differentiation.

    python scripts/benchmarks/standardization.py --device v3

Compiles values and gradients for kernels of F0 by XLA's TPU compiler, which needs libtpu (pip install
'.[tpu]') but no TPU. Prints a JSON object for each precision: the compiler's own estimates of cycles and of
bytes accessed, summed over the kernels.
"""

import json
import re
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import SingleDeviceSharding

from nfnets.commands.command_line import Parser, run
from nfnets.errors import InputError
from nfnets.models.layers import standardize_weight
from nfnets.planning.compiler import tpu_devices
from nfnets.planning.tpus import DEVICES

KERNELS = ((1, 1, 256, 128), (3, 3, 128, 256), (1, 1, 1536, 768), (3, 3, 128, 768), (1, 1, 768, 1536))


def estimate(fn: Callable[..., jax.Array], device: jax.Device, dtype: Any) -> dict[str, int]:
    """Cycles and bytes that values and gradients of all kernels take; parameters are float32."""

    def values_and_grads(w: jax.Array, gain: jax.Array, grad: jax.Array) -> Any:
        out, vjp = jax.vjp(lambda w, gain: fn(w.astype(dtype), gain.astype(dtype)), w, gain)
        return out, vjp(grad)

    place = SingleDeviceSharding(device)
    totals = {'estimated_cycles': 0, 'bytes_accessed': 0}
    for shape in KERNELS:
        types = ((shape, jnp.float32), (shape[3:], jnp.float32), (shape, dtype))
        arguments = [jax.ShapeDtypeStruct(*each, sharding=place) for each in types]
        compiled = jax.jit(values_and_grads).lower(*arguments).compile()
        cycles = re.findall(r'"estimated_cycles":"(\d+)"', compiled.as_text() or '')
        totals['estimated_cycles'] += sum(map(int, cycles))
        totals['bytes_accessed'] += int((compiled.cost_analysis() or {})['bytes accessed'])
    return totals


def main(argv: Sequence[str]) -> None:
    parser = Parser(__doc__)
    parser.add_argument('--device', default='v3', choices=DEVICES)
    arguments = parser.parse_args(argv)
    jax.config.update('jax_platforms', 'cpu')
    devices = tpu_devices(DEVICES[arguments.device])
    if devices is None:
        raise InputError("there is no TPU compiler here: pip install '.[tpu]'")
    for dtype in (jnp.bfloat16, jnp.float32):
        forms: dict[str, Callable[..., jax.Array]] = {
            'by_hand': standardize_weight,
            'automatic': standardize_weight.fun,
        }
        result = {name: estimate(fn, devices[0], dtype) for name, fn in forms.items()}
        print(json.dumps({'device': arguments.device, 'precision': dtype.__name__, **result}))


if __name__ == '__main__':
    run(main)
