"""Parameters and multiply-adds of every variant are those of the released code and of the paper."""

import importlib.util
import json
import re
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

from nfnets.models import published_sizes
from nfnets.models.convolution import convolve
from nfnets.models.cost import Cost, kept_for_backward, multiply_adds, network_cost
from nfnets.models.variants import RECIPES, VARIANTS

ROOT = Path(__file__).resolve().parents[2]

_spec = importlib.util.spec_from_file_location('summarize', ROOT / 'scripts' / 'summarize.py')
summarize = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(summarize)


def _golden():
    """{variant: figures} of the released code."""
    figures = json.loads((ROOT / 'tests' / 'golden' / 'variants.json').read_text())
    return {name.removeprefix('NFNet-'): figures[name] for name in figures}


def _cost(figures, which):
    return Cost(figures['params'], figures['tensors'], figures[f'multiply_adds_{which}'])


def _by_hand(widths, depths, size, num_classes=1000, group_width=128):
    """`Cost` of an NFNet, layer by layer."""
    tensors = parameters = work = 0

    def convolution(kernel, inputs, outputs, groups=1):
        nonlocal tensors, parameters, work
        weights = kernel * kernel * inputs // groups * outputs
        tensors, parameters, work = tensors + 3, parameters + weights + 2 * outputs, work + weights * size**2

    def linear(inputs, outputs):
        nonlocal tensors, parameters, work
        tensors, parameters, work = tensors + 2, parameters + (inputs + 1) * outputs, work + inputs * outputs

    channels = 3
    for outputs, stride in ((16, 2), (32, 1), (64, 1), (widths[0] // 2, 2)):
        size = -(-size // stride)
        convolution(3, channels, outputs)
        channels = outputs
    for stage, (width, depth) in enumerate(zip(widths, depths, strict=True)):
        for number in range(depth):
            middle = width // 2 // group_width * group_width
            convolution(1, channels, middle)
            if stage and number == 0:
                size = -(-size // 2)
            for _ in range(2):
                convolution(3, middle, middle, middle // group_width)
            convolution(1, middle, width)
            if number == 0:
                convolution(1, channels, width)
            linear(width, width // 2)
            linear(width // 2, width)
            tensors, parameters = tensors + 1, parameters + 1  # The skip gain.
            channels = width
    convolution(1, channels, 2 * channels)
    linear(2 * channels, num_classes)
    return Cost(parameters, tensors, work)


@pytest.mark.parametrize('which', ['train', 'test'])
def test_by_hand_every_variant_is_the_released_codes_to_the_last_digit(which):
    golden = _golden()
    assert golden.keys() == VARIANTS.keys()
    for name, variant in VARIANTS.items():
        recipe = RECIPES[name]
        size = recipe.train_size if which == 'train' else recipe.eval_size
        assert size == golden[name][f'{which}_px']
        assert _by_hand(variant.widths, variant.depths, size) == _cost(golden[name], which), name


@pytest.mark.parametrize(('name', 'which'), [('F0', 'train'), ('F0', 'test'), ('F7+', 'test')])
def test_the_network_itself_has_the_released_codes_cost(name, which):
    figures = _golden()[name]
    assert network_cost(name, figures[f'{which}_px']) == _cost(figures, which)


# Of timm 1.0.31 by PyTorch's `torch.utils.flop_counter`, and by the arrays of its state_dict.
TIMMS = {
    ('NFNet', 'nfnet_l0', 224): Cost(35_074_488, 221, 4_255_094_784),
    ('NFNet', 'eca_nfnet_l0', 288): Cost(24_143_924, 185, 7_014_465_280),
    ('NFNet', 'eca_nfnet_l2', 384): Cost(56_722_348, 497, 29_781_742_848),
    ('NFRegNet', 'nf_regnet_b1', 288): Cost(10_223_984, 280, 999_308_928),
    ('NFResNet', 'nf_resnet50', 256): Cost(25_557_032, 161, 5_340_348_416),
}


@pytest.mark.parametrize(('network', 'name', 'size'), TIMMS)
def test_timms_own_networks_have_timms_cost(network, name, size):
    assert size in (RECIPES[name].train_size, RECIPES[name].eval_size)
    assert network_cost(name, size, network=network) == TIMMS[network, name, size]


def test_the_summary_has_a_row_for_every_variant_beside_what_was_published(monkeypatch, capsys):
    golden = _golden()
    costs = {
        (name, figures[f'{which}_px']): _cost(figures, which)
        for name, figures in golden.items()
        for which in ('train', 'test')
    }
    monkeypatch.setattr(sys, 'argv', ['summarize.py'])
    monkeypatch.setattr(published_sizes, 'network_cost', lambda name, size: costs[name, size])
    assert summarize.main() == 0
    lines = capsys.readouterr().out.splitlines()
    rows = {line.split()[0]: line.split() for line in lines if re.match(r'F\d', line)}
    columns = ('tensors', 'params', 'train_px', 'multiply_adds_train', 'test_px', 'multiply_adds_test')
    expected = {name: [f'{figures[column]:,}' for column in columns] for name, figures in golden.items()}
    assert {name: row[1:7] for name, row in rows.items()} == expected
    agreeing = [name for name, row in rows.items() if row[9] == 'agrees']
    assert agreeing == ['F0', 'F1', 'F2', 'F3', 'F4', 'F5', 'F6', 'F7', 'F4+']
    assert 'paper' in rows['F4+']


@pytest.mark.parametrize(
    ('name', 'parameters', 'billions', 'right'),
    [
        ('F0', 71_489_284, 12.384, True),
        ('F0', 71_560_000, 12.384, False),
        ('F0', 71_489_284, 12.386, False),
        ('F7', 499_504_088, 478.8, True),
        ('F7', 499_504_087, 478.8, False),
        ('F4+', 524_954_484, 333.39, True),
        ('F4+', 527_000_000, 367.0, False),  # The paper's F4+, which is not the released one.
    ],
)
def test_a_figure_is_right_when_it_rounds_to_the_published_one(name, parameters, billions, right):
    cost = Cost(parameters, tensors=1, multiply_adds=round(billions * 1e9))
    assert published_sizes.verdict(name, cost)[1] == right


def test_a_wrong_figure_is_exit_status_1(monkeypatch):
    monkeypatch.setattr(sys, 'argv', ['summarize.py'])
    monkeypatch.setattr(published_sizes, 'VARIANTS', ['F0'])
    for count, status in ((12_384_198_656, 0), (12_000_000_000, 1)):
        cost = Cost(71_489_284, 233, count)
        monkeypatch.setattr(published_sizes, 'network_cost', lambda name, size, cost=cost: cost)
        assert summarize.main() == status


def test_multiply_adds_are_counted_by_hand_inside_nested_programs_too():
    @jax.jit
    def program(x, kernel, w):
        jax.jit(lambda x: None)(x)  # One of no results, as remat leaves them.
        y = convolve(x, kernel, stride=2, groups=4)
        return jax.nn.relu(jnp.mean(y, axis=(1, 2))) @ w

    traced = jax.make_jaxpr(program)(jnp.zeros((1, 7, 6, 8)), jnp.zeros((3, 3, 2, 12)), jnp.zeros((12, 5)))
    # 4 x 3 outputs of 12 channels, each over 3 x 3 x 2 values; then a 12 x 5 matrix.
    assert multiply_adds(traced.jaxpr) == 4 * 3 * 12 * 18 + 12 * 5


def test_what_a_backward_pass_needs_is_counted_for_every_turn_of_a_loop():
    def program(x, kernels, w):
        y, _ = jax.lax.scan(lambda x, kernel: (convolve(x, kernel), None), x, kernels)
        return jnp.mean(convolve(y, kernels[0], stride=2), axis=(1, 2)) @ w

    traced = jax.make_jaxpr(program)(jnp.zeros((2, 7, 6, 4)), jnp.zeros((3, 3, 3, 4, 4)), jnp.zeros((4, 5)))
    assert kept_for_backward(traced.jaxpr) == 2 * (3 * 7 * 6 * 4 + 4 * 3 * 4 + 5)
