"""Compares the logits of a network with those of timm's model of the same weights, on the CPU in float32.

    pip install torch torchvision timm
    python scripts/benchmarks/compare_timm.py --variant F0 --size 96
    python scripts/benchmarks/compare_timm.py --variant nfnet_l0 --size 224 288

Weights and images are random, drawn in timm's own layout. The JSON object printed for each size has the
largest difference of a logit relative to the largest logit, and of a value of timm's that was converted there
and back relative to itself. F0 .. F6 are timm's dm_nfnet_f0 .. f6 with weight standardization and GELU set to
the paper's, beside which timm's defaults stand; timm's own networks are as they are. Exit status 1 if logits
differ by more than 1e-5.
"""

import argparse
import dataclasses
import json
import math
import sys
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from nfnets.models.networks import NETWORKS, make_network
from nfnets.models.variants import Variant
from nfnets.weights.timm import from_timm, to_timm

KINDS = {
    **{f'F{i}': 'NFNet' for i in range(7)},
    **dict.fromkeys(('nfnet_l0', 'eca_nfnet_l0', 'eca_nfnet_l1', 'eca_nfnet_l2'), 'NFNet'),
    'nf_regnet_b1': 'NFRegNet',
    'nf_resnet50': 'NFResNet',
}
# Of the small networks with the blocks of timm's own: ours, and what timm calls the same.
SMALL: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    'NFNet': (
        {'widths': (256, 128), 'depths': (1, 2), 'group_width': 32},
        {'channels': (256, 128), 'depths': (1, 2), 'group_size': 32},
    ),
    'NFRegNet': (
        {'widths': (80, 104), 'depths': (1, 2)},  # Of which it rounds some up and some down.
        {'channels': (106, 138), 'depths': (1, 2), 'num_features': 405},
    ),
    'NFResNet': (
        {'widths': (64, 128), 'depths': (1, 2)},
        {'channels': (64, 128), 'depths': (1, 2), 'stem_chs': 16},
    ),
}
SMALL_CLASSES = 10
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


def small_variant(variant: str) -> Variant:
    """A small network with the blocks of one of timm's own."""
    kind = KINDS[variant]
    return dataclasses.replace(NETWORKS[kind].variants[variant], **SMALL[kind][0])


def our_logits(
    state_dict: Mapping[str, np.ndarray], variant: str | Variant, images: np.ndarray
) -> np.ndarray:
    """Logits of our network with timm's weights, [N, num_classes].

    Args:
      state_dict: timm's.
      variant: name, or the variant of an NFNet.
      images: [N, H, W, 3].
    """
    return logits(state_dict, KINDS[variant] if isinstance(variant, str) else 'NFNet', variant, images)


def logits(
    state_dict: Mapping[str, np.ndarray], kind: str, variant: str | Variant, images: np.ndarray
) -> np.ndarray:
    """Logits of our network of a kind and variant with timm's weights, [N, num_classes]."""
    network = make_network(kind, len(state_dict['head.fc.bias']), variant)
    apply = jax.jit(network.apply, static_argnums=4)
    outputs, _ = apply(from_timm(state_dict), {}, None, images, False)
    return np.asarray(outputs['logits'])


def there_and_back(state_dict: Mapping[str, np.ndarray]) -> float:
    """The largest difference of a value that was converted to ours and back, relative to itself."""
    back = to_timm(from_timm(state_dict))
    assert back.keys() == state_dict.keys()
    differences = (np.abs(back[name] - value) / np.abs(value) for name, value in state_dict.items())
    return float(max(np.max(difference) for difference in differences))


def timm_logits(model: Any, images: np.ndarray) -> np.ndarray:
    """Logits of timm's model, [N, num_classes]."""
    import torch

    with torch.no_grad():
        return model(torch.from_numpy(images.transpose(0, 3, 1, 2).copy())).numpy()


def make_timm(
    variant: str, as_in_the_paper: bool, state_dict: Mapping[str, np.ndarray] | None = None, **settings: Any
) -> Any:
    """timm's model of that name, with random weights unless they are given, and settings of its own."""
    import timm
    import torch

    name = f'dm_nfnet_{variant.lower()}' if variant[0] == 'F' else variant
    model = timm.create_model(name, pretrained=False, **settings).eval()
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


def make_small_timm(variant: str) -> Any:
    """timm's model of the network that `small_variant` is."""
    settings = dict(SMALL[KINDS[variant]][1])
    ratio = small_variant(variant).features_ratio or 2.0
    if KINDS[variant] == 'NFNet':
        settings['num_features'] = int(settings['channels'][-1] * ratio)
    return make_timm(variant, as_in_the_paper=False, num_classes=SMALL_CLASSES, **settings)


def difference(actual: np.ndarray, expected: np.ndarray) -> float:
    """Largest difference, relative to the largest value expected."""
    return float(np.max(np.abs(actual - expected)) / np.max(np.abs(expected)))


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--variant', default='F0', choices=KINDS)
    parser.add_argument('--size', type=int, nargs='+', default=[96], help='side of the images, px')
    parser.add_argument('--small', action='store_true', help="a small network with the blocks of timm's own")
    parser.add_argument('--save', type=Path, help='.npz for the logits of timm, and names and shapes')
    arguments = parser.parse_args()
    variant, is_port = arguments.variant, arguments.variant[0] == 'F'
    if arguments.small and is_port:
        parser.error(f"--small is of timm's own networks, not of {variant}")
    whole = make_timm(variant, as_in_the_paper=is_port)
    model = make_small_timm(variant) if arguments.small else whole
    state_dict = {name: value.numpy() for name, value in model.state_dict().items()}
    own = small_variant(variant) if arguments.small else variant
    saved: dict[str, Any] = {}
    worst = 0.0
    for size in arguments.size:
        images = random_images(size)
        expected = timm_logits(model, images)
        ours = logits(state_dict, KINDS[variant], own, images)
        result = {'variant': variant, 'small': arguments.small, 'size': size}
        result['difference'] = difference(ours, expected)
        if is_port:
            defaults = timm_logits(make_timm(variant, as_in_the_paper=False, state_dict=state_dict), images)
            result['difference_from_timms_defaults'] = difference(ours, defaults)
        result['there_and_back'] = there_and_back(state_dict)
        print(json.dumps(result), flush=True)
        saved['logits' if len(arguments.size) == 1 else f'logits_{size}'] = expected
        worst = max(worst, result['difference'])
    if arguments.save:
        saved['shapes'] = json.dumps({name: tuple(value.shape) for name, value in whole.state_dict().items()})
        np.savez_compressed(arguments.save, **saved)
    return 0 if worst <= _MOST else 1


if __name__ == '__main__':
    sys.exit(main())
