"""NF-RegNets: outputs against NumPy in float64, and counts that timm has too."""

import itertools
import math

import jax
import numpy as np
import pytest
from numpy_layers import average_pooled, convolved, linear, random_params, squeezed, standardized

from nfnets.models.networks import make_network, variable_shapes
from nfnets.models.variants import RECIPES, REGNETS, Variant

SMALL = Variant((8, 20), (2, 2), group_width=8)
GAMMA = 1.7881293296813965
# As timm counts nf_regnet_b0 .. b5, when it cuts channels off to whole numbers instead of rounding to eights.
COUNTS = {
    'B0': 8_595_372,
    'B1': 10_019_208,
    'B2': 13_785_904,
    'B3': 18_136_667,
    'B4': 29_315_830,
    'B5': 48_707_138,
}


@pytest.mark.parametrize('variant', COUNTS)
def test_parameters_are_as_many_as_in_timm(variant):
    params, state = variable_shapes(make_network('NFRegNet', 1000, variant))
    assert sum(math.prod(p.shape) for p in jax.tree.leaves(params)) == COUNTS[variant]
    assert state == {}


def test_the_family_grows_to_b8():
    assert list(REGNETS) == [f'B{i}' for i in range(9)]
    assert REGNETS['B8'].widths == (78, 174, 342, 726)
    for smaller, larger in itertools.pairwise(REGNETS):
        assert sum(REGNETS[smaller].depths) < sum(REGNETS[larger].depths)
        recipe = RECIPES[smaller]
        assert recipe.train_size < recipe.eval_size <= RECIPES[larger].eval_size


def test_names_and_shapes_are_those_of_the_released_code():
    params = random_params(make_network('NFRegNet', 5, SMALL))
    shapes = {f'{m}/{n}': x.shape for m, names in params.items() for n, x in names.items()}
    prefix = 'NF_RegNet/~/'
    assert shapes[f'{prefix}initial_conv/w'] == (3, 3, 3, 8)
    assert shapes[f'{prefix}nf_block/skip_gain'] == ()
    assert shapes[f'{prefix}nf_block/~/conv1/w'] == (3, 3, 8, 8)  # Not widened.
    assert shapes[f'{prefix}nf_block_1/~/conv1/w'] == (3, 3, 8, 16)  # 2.25 x 8, cut off to groups of 8.
    assert shapes[f'{prefix}nf_block_2/~/conv2/w'] == (1, 1, 16, 20)
    assert shapes[f'{prefix}nf_block_2/~/conv_shortcut/w'] == (1, 1, 8, 20)
    assert shapes[f'{prefix}nf_block_3/~/squeeze_excite/~/linear/w'] == (40, 20)
    assert shapes[f'{prefix}final_conv/w'] == (1, 1, 20, 58)
    assert shapes[f'{prefix}linear/w'] == (58, 5)


def _forward(params, x):
    """Logits and pooled features of `SMALL`, from the formulas."""
    params = {m.removeprefix('NF_RegNet/~/'): names for m, names in params.items()}

    def act(x):
        return GAMMA * x / (1 + np.exp(-x))

    def conv(name, x, stride=1, groups=1):
        p = params[name]
        return convolved(x, standardized(p['w'], p['gain']), stride, groups) + p['bias']

    out = conv('initial_conv', x, 2)
    variance = 1.0
    for index, groups in enumerate((1, 2, 2, 5)):
        block = f'nf_block_{index}' if index else 'nf_block'
        is_first = index in (0, 2)
        h = act(out) / np.sqrt(variance)
        shortcut = conv(f'{block}/~/conv_shortcut', average_pooled(h, 2, 2)) if is_first else out
        h = conv(f'{block}/~/conv0', h)
        h = conv(f'{block}/~/conv1', act(h), 2 if is_first else 1, groups)
        se = f'{block}/~/squeeze_excite/~/linear'
        h = 2 * h * squeezed(params[se], params[f'{se}_1'], h)
        h = conv(f'{block}/~/conv2', act(h))
        out = shortcut + 0.2 * params[block]['skip_gain'] * h
        variance = (1.0 if is_first else variance) + 0.04
    pool = act(conv('final_conv', out)).mean((1, 2))
    return linear(params['linear'], pool), pool


@pytest.mark.parametrize('size', [32, 22])
def test_outputs_are_those_of_the_formulas(size):
    network = make_network('NFRegNet', 5, SMALL)
    params = random_params(network)
    images = np.random.default_rng(1).normal(size=(2, size, size, 3))
    with jax.enable_x64(True):
        out, _ = jax.jit(network.apply, static_argnums=4)(params, {}, None, images, False)
    logits, pool = _forward(params, images)
    np.testing.assert_allclose(out['logits'], logits, rtol=1e-9)
    np.testing.assert_allclose(out['pool'], pool, rtol=1e-9)
