"""Loads what nfnets-publish wrote into timm, and compares the logits with ours, on the CPU in float32.

    pip install torch torchvision timm
    python scripts/benchmarks/published_in_timm.py DIR

Images are random, of the size that `config.json` has for timm. The JSON object printed has the largest
difference of a logit relative to the largest logit: as timm loads the network, and with the paper's GELU.
Exit status 1 if the second is above 1e-5.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import jax
import numpy as np

from nfnets import load_checkpoint
from nfnets.models.networks import make_network
from nfnets.weights.fit import require_architecture
from nfnets.weights.load import Weights

_MOST = 1e-5


def our_logits(weights: Weights, images: np.ndarray) -> np.ndarray:
    """Logits [N, num_classes] of images [N, H, W, 3]."""
    found = require_architecture(weights.params, f'{weights.path} holds no NFNet')
    activation = weights.about.activation
    network = make_network(found.network, found.num_classes, found.variant, activation=activation)
    outputs, _ = jax.jit(network.apply, static_argnums=4)(weights.params, {}, None, images, False)
    return np.asarray(outputs['logits'])


def timm_logits(model: Any, images: np.ndarray) -> np.ndarray:
    """Logits [N, num_classes] of images [N, H, W, 3]."""
    import torch

    with torch.no_grad():
        return model(torch.from_numpy(images.transpose(0, 3, 1, 2).copy())).numpy()


def with_tanh_gelu(model: Any) -> Any:
    """The model, whose GELUs are now the paper's."""
    import torch

    for module in model.modules():
        if 'gelu' in getattr(getattr(module, 'act_fn', None), '__name__', ''):
            module.act_fn = lambda x, inplace: torch.nn.functional.gelu(x, approximate='tanh')
    return model


def difference(actual: np.ndarray, expected: np.ndarray) -> float:
    """Largest difference, relative to the largest value expected."""
    return float(np.max(np.abs(actual - expected)) / np.max(np.abs(expected)))


def main() -> int:
    import timm

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('published', type=Path, metavar='DIR')
    directory = parser.parse_args().published
    model = timm.create_model(f'local-dir:{directory}', pretrained=True).eval()
    data = timm.data.resolve_model_data_config(model, use_test_size=True)
    size = data['input_size'][-1]
    images = np.random.default_rng(0).standard_normal((2, size, size, 3), np.float32)
    ours = our_logits(load_checkpoint(directory / 'model.safetensors'), images)
    as_loaded = difference(timm_logits(model, images), ours)
    result = {
        'size': size,
        'as_loaded': as_loaded,
        'with_tanh_gelu': difference(timm_logits(with_tanh_gelu(model), images), ours),
    }
    print(json.dumps(result))
    return 0 if result['with_tanh_gelu'] <= _MOST else 1


if __name__ == '__main__':
    sys.exit(main())
