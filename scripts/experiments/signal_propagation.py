"""Draws how the signal propagates through networks at initialization: mean and variance against depth.

    python scripts/experiments/signal_propagation.py --model NFNet --variant F1
    python scripts/experiments/signal_propagation.py --model ResNet --model NFResNet --variant ResNet200

The plots of arXiv 2101.08692, section 3: after each residual block the average squared channel mean and the
average channel variance, and the variance of its residual branch, beside the prediction where there is one,
on photographs and on normal noise. Skip gains, which start at 0, are set to 1 for that; the branches of a
FixupResNet start at 0 too, and stay so here. `NFResNet-unstandardized` has no scaled weight standardization.
What is drawn is printed, as a JSON object a line.
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath
from matplotlib.figure import Figure
from sklearn.datasets import load_sample_images

from nfnets import host
from nfnets.commands.command_line import Parser, run
from nfnets.data.augment import normalize
from nfnets.data.preprocessing import Preprocessing
from nfnets.errors import InputError
from nfnets.models.networks import NETWORKS, init_variables, make_network
from nfnets.models.signal_propagation import Signal, make_measure, predicted_signal, with_skip_gains
from nfnets.models.stages import ALPHA
from nfnets.models.variants import Variant, get_variant

UNSTANDARDIZED = 'NFResNet-unstandardized'
TITLES = {
    'squared_mean': 'average squared channel mean',
    'variance': 'average channel variance',
    'branch_variance': 'variance of residual branches',
}
STYLES: dict[str, dict[str, Any]] = {
    'photographs': {'color': 'tab:blue', 'linewidth': 1.8},
    'noise': {'color': 'tab:orange', 'linewidth': 1.2},
    'predicted': {'color': 'black', 'linestyle': '--', 'linewidth': 1.0},
}


def photographs(folder: Path | None, count: int, size: int) -> np.ndarray:
    """Pixels [count, size, size, 3]: crops of scikit-learn's photographs, or images of a folder."""
    rng = np.random.default_rng(0)
    if folder is None:
        images = load_sample_images().images
        most = min(images[0].shape[:2])
        if size > most:
            raise InputError(f'--size={size}: the photographs allow {most} px at most; give others by --data')
        crops = []
        for number in range(count):
            image = images[number % 2]
            top, left = (rng.integers(length - size + 1) for length in image.shape[:2])
            crops.append(image[top : top + size, left : left + size])
        return np.stack(crops)
    if not folder.is_dir():
        raise InputError(f'--data={folder} is no folder')
    paths = sorted(path for path in folder.rglob('*') if path.is_file())[:count]
    if not paths:
        raise InputError(f'--data={folder} holds no images')
    from nfnets.data.image_files import read_image  # Late: TensorFlow takes seconds to import.

    return np.stack([read_image(epath.Path(path), Preprocessing(size, 0)) for path in paths])


def signals(name: str, variant: Variant, inputs: Mapping[str, jax.Array], alpha: float) -> dict[str, Signal]:
    """The signals of one network, by kind of image, and as predicted; alpha is for NF-ResNets alone."""
    kind = name.removesuffix('-unstandardized')
    own: dict[str, Any] = {'alpha': alpha} if kind == 'NFResNet' else {}
    settings = {'weight_standardization': False} if name == UNSTANDARDIZED else {}
    rates = {'dropout_rate': 0.0, 'stochastic_depth_rate': 0.0}
    network = make_network(kind, 1000, variant, **rates, **own, **settings)
    # Not compiled as a whole, which would take minutes for deep networks.
    params, network_state = init_variables(network, jax.random.key(0))
    params, measure = with_skip_gains(params, 1.0), make_measure(network)
    found = {name: measure(params, network_state, images) for name, images in inputs.items()}
    predicted = predicted_signal(kind, variant, **own)
    return found if predicted is None else {**found, 'predicted': predicted}


def plain(signal: Signal) -> dict[str, list[float | None]]:
    """A signal for JSON: what is not known is None."""
    return {
        field: [None if np.isnan(value) else round(float(value), 4) for value in values]
        for field, values in signal._asdict().items()
    }


def draw(
    found: Mapping[str, Mapping[str, Signal]], depths: Mapping[str, tuple[int, ...]], path: Path
) -> None:
    """A row of three plots for each network; transitions are marked."""
    figure = Figure(figsize=(11, 0.5 + 2.5 * len(found)), layout='constrained')
    rows = figure.subplots(len(found), 3, squeeze=False)
    for row, (name, by_images) in zip(rows, found.items(), strict=True):
        for axes, (field, title) in zip(row, TITLES.items(), strict=True):
            first = 1 if field == 'branch_variance' else 0
            for images, signal in by_images.items():
                values = getattr(signal, field)
                axes.plot(range(first, first + len(values)), values, label=images, **STYLES[images])
            for transition in np.cumsum((0, *depths[name]))[:-1] + 1:
                axes.axvline(transition, color='gray', linewidth=0.5, alpha=0.5)
            axes.set_ylim(bottom=0)
            axes.set_title(title, fontsize=10)
        row[0].set_ylabel(name)
    for axes in rows[-1]:
        axes.set_xlabel('block')
    rows[0][0].legend(fontsize=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=80)


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """The flags, checked as far as nothing is read.

    Raises:
      InputError: one is not allowed.
    """
    parser = Parser(__doc__)
    parser.add_argument('--model', action='append', required=True, choices=(*NETWORKS, UNSTANDARDIZED))
    parser.add_argument('--variant', help='of every model; default: the smallest of its kind')
    parser.add_argument('--size', type=int, default=224, help='side of the images, px')
    parser.add_argument('--images', type=int, default=16, help='how many of each kind')
    parser.add_argument('--data', type=Path, help="folder of images; default: scikit-learn's photographs")
    parser.add_argument('--alpha', type=float, default=ALPHA, help='scale of the branches of NF-ResNets')
    parser.add_argument('--plot', type=Path, default=Path('signal_propagation.png'))
    arguments = parser.parse_args(argv)
    for name in ('size', 'images'):
        if getattr(arguments, name) < 1:
            raise InputError(f'--{name}={getattr(arguments, name)}: it must be 1 or more')
    known = Figure().canvas.get_supported_filetypes()
    if arguments.plot.suffix.removeprefix('.') not in known:
        raise InputError(f'--plot={arguments.plot}: its name must end in one of .{", .".join(sorted(known))}')
    return arguments


def main(argv: Sequence[str]) -> None:
    """Measures the networks, prints what it finds and draws it."""
    arguments = parse(argv)
    host.tune()
    variants = {}
    for name in arguments.model:
        known = NETWORKS[name.removesuffix('-unstandardized')].variants
        variants[name] = get_variant(arguments.variant or next(iter(known)), known)
    pixels = photographs(arguments.data, arguments.images, arguments.size)
    noise = np.random.default_rng(1).standard_normal(pixels.shape, np.float32)
    inputs = {'photographs': normalize(jnp.asarray(pixels)), 'noise': jnp.asarray(noise)}
    found = {}
    for name, variant in variants.items():
        found[name] = signals(name, variant, inputs, arguments.alpha)
        for images, signal in found[name].items():
            print(json.dumps({'model': name, 'images': images, **plain(signal)}), flush=True)
    draw(found, {name: variant.depths for name, variant in variants.items()}, arguments.plot)


if __name__ == '__main__':
    run(main)
