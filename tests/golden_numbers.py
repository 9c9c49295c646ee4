"""Numbers that the code released with the paper produced, and our network on the same inputs."""

import functools
import importlib.util
import json
from pathlib import Path

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np

from nfnets import NFNet, losses
from nfnets.models.param_layout import stack_alike
from nfnets.models.variants import VARIANTS

DIRECTORY = Path(__file__).parent / 'golden'

_spec = importlib.util.spec_from_file_location('fill', DIRECTORY / 'fill.py')
fill = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(fill)


def load(name):
    """The arrays of a file."""
    return np.load(DIRECTORY / name)


@functools.cache
def f0_shapes():
    """{'module/name': shape} of every parameter of F0."""
    return json.loads((DIRECTORY / 'names_F0.json').read_text())


@functools.cache
def f0_params():
    """The parameters of F0 that the golden numbers were computed with."""
    return fill.to_haiku(fill.fill_flat(f0_shapes()))


def f0_gradients():
    """(loss, logits, gradients) as in grads_F0_96_f64.npz, by our network in float64.

    Blocks that are alike are stacked for it; gradients come unstacked.
    """
    layout = stack_alike(f0_params(), VARIANTS['F0'].depths)

    def forward(images):
        net = NFNet(1000, 'F0', dropout_rate=0.0, stochastic_depth_rate=0.0, layout=layout)
        return net(images, is_training=True)

    network = hk.without_apply_rng(hk.transform(forward))

    def loss_fn(params):
        logits = network.apply(params, fill.inputs(96, 96).astype(np.float64))['logits']
        labels = jnp.array([3, 7])
        targets = losses.soft_targets(labels, labels, jnp.ones(2), num_classes=1000, label_smoothing=0.1)
        return jnp.mean(losses.cross_entropy(logits, targets)), logits

    # Not optimized at all, it would compute longer than it compiles.
    some = {'xla_backend_optimization_level': 1}
    with jax.enable_x64(True):
        value_and_grad = jax.jit(jax.value_and_grad(loss_fn, has_aux=True), compiler_options=some)
        params = layout.stack(jax.tree.map(np.float64, f0_params()))
        (loss, logits), grads = jax.device_get(value_and_grad(params))
        return loss, logits, layout.unstack(grads)


def stored_entries(arrays, prefix):
    """(name, stored values, function to take the same part of a whole array) of one kind."""
    corners = {
        'NFNet/~/nf_block/~/conv1/w': np.s_[:, :, :8, :8],
        'NFNet/~/nf_block_5/~/conv1b/w': np.s_[:, :, :8, -8:],
        'NFNet/~/linear/w': np.s_[:16, :16],
        'NFNet/~/nf_block_2/~/squeeze_excite/~/linear/w': np.s_[:16, :16],
        'NFNet/~/final_conv/w': np.s_[0, 0, :16, :16],
    }
    for key in arrays.files:
        if key.startswith(f'{prefix}/'):
            yield key[len(prefix) + 1 :], arrays[key], np.s_[...]
        elif key.startswith(f'{prefix}_slice/'):
            name = key[len(prefix) + 7 :]
            yield name, arrays[key], corners[name]


def relative_error(actual, expected):
    """Largest difference, relative to the largest value expected."""
    expected = np.asarray(expected, np.float64)
    return np.max(np.abs(np.asarray(actual, np.float64) - expected)) / np.max(np.abs(expected))


def flat(tree):
    """{module: {name: x}} -> {'module/name': x}."""
    return {f'{module}/{name}': x for module, names in tree.items() for name, x in names.items()}
