"""Compares the logits of an NFNet with those of timm's model of the same weights, on the CPU in float32.

    pip install torch torchvision timm
    python scripts/benchmarks/compare_timm.py --variant F0 --size 96

Weights and images are random, drawn in timm's own layout. The JSON object printed has the largest difference
of a logit relative to the largest logit: with timm's weight standardization and GELU set to the paper's, and
as timm has them. Exit status 1 if the first is above 1e-5.
"""

import argparse
import json
import math
import sys
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from nfnets.data.imagenet import NUM_CLASSES
from nfnets.models.networks import make_network
from nfnets.weights.timm import from_timm, to_timm

_MOST = 1e-5


def random_value(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """The value of a parameter that timm calls by this name, float32: a function of name and shape."""
    z = np.random.default_rng(zlib.crc32(name.encode())).standard_normal(shape, dtype=np.float32)
    if name.endswith('.weight'):
        return z / np.float32(math.sqrt(math.prod(shape[1:])))
    center = {'gain': 1.0, 'skipinit_gain': 0.5, 'bias': 0.0}[name.rpartition('.')[2]]
    return np.asarray(np.float32(center) + np.float32(0.1) * z, np.float32)


def random_images(size: int) -> np.ndarray:
    """[2, size, size, 3], normalized."""
    return np.random.default_rng(0).standard_normal((2, size, size, 3), np.float32)


def our_logits(state_dict: Mapping[str, np.ndarray], variant: str, images: np.ndarray) -> np.ndarray:
    """Logits of our network with timm's weights, [N, 1000]."""
    params = from_timm(state_dict)
    for name, value in to_timm(params).items():
        np.testing.assert_array_equal(value, state_dict[name])
    network = make_network('NFNet', NUM_CLASSES, variant)
    outputs, _ = jax.jit(network.apply, static_argnums=4)(params, {}, None, images, False)
    return np.asarray(outputs['logits'])


def timm_logits(model: Any, images: np.ndarray) -> np.ndarray:
    """Logits of timm's model, [N, 1000]."""
    import torch

    with torch.no_grad():
        return model(torch.from_numpy(images.transpose(0, 3, 1, 2).copy())).numpy()


def make_timm(variant: str, as_in_the_paper: bool, state_dict: Mapping[str, np.ndarray] | None = None) -> Any:
    """timm's model of that name, with random weights unless they are given."""
    import timm
    import torch

    model = timm.create_model(f'dm_nfnet_{variant.lower()}', pretrained=False).eval()
    if as_in_the_paper:
        for module in model.modules():
            if hasattr(module, 'eps'):
                module.eps = 1e-30  # timm adds it to the variance; the paper has a floor, not reached here.
            if hasattr(module, 'act_fn'):
                module.act_fn = lambda x, inplace: torch.nn.functional.gelu(x, approximate='tanh')
    own = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    values = state_dict or {name: random_value(name, shape) for name, shape in own.items()}
    model.load_state_dict({name: torch.from_numpy(np.array(value)) for name, value in values.items()})
    return model


def difference(actual: np.ndarray, expected: np.ndarray) -> float:
    """Largest difference, relative to the largest value expected."""
    return float(np.max(np.abs(actual - expected)) / np.max(np.abs(expected)))


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--variant', default='F0', choices=[f'F{i}' for i in range(7)])
    parser.add_argument('--size', type=int, default=96, help='side of the images, px')
    parser.add_argument('--save', type=Path, help='.npz for the logits of timm, and names and shapes')
    arguments = parser.parse_args()
    images = random_images(arguments.size)
    model = make_timm(arguments.variant, as_in_the_paper=True)
    state_dict = {name: value.numpy() for name, value in model.state_dict().items()}
    expected = timm_logits(model, images)
    ours = our_logits(state_dict, arguments.variant, images)
    defaults = timm_logits(make_timm(arguments.variant, as_in_the_paper=False, state_dict=state_dict), images)
    result = {
        'variant': arguments.variant,
        'size': arguments.size,
        'difference': difference(ours, expected),
        'difference_from_timms_defaults': difference(ours, defaults),
    }
    print(json.dumps(result))
    if arguments.save:
        shapes = json.dumps({name: value.shape for name, value in state_dict.items()})
        np.savez_compressed(arguments.save, logits=expected, shapes=shapes)
    return 0 if result['difference'] <= _MOST else 1


if __name__ == '__main__':
    sys.exit(main())
