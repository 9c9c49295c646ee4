"""Parameters and multiply-adds of every variant are those of the released code and of the paper."""

import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

from nfnets.cost import Cost, multiply_adds

ROOT = Path(__file__).resolve().parents[1]
SCRIPT = ROOT / 'scripts' / 'summarize.py'

_spec = importlib.util.spec_from_file_location('summarize', SCRIPT)
summarize = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(summarize)


def test_the_summary_agrees_with_the_released_code_to_the_last_digit_for_every_variant():
    golden = json.loads((ROOT / 'tests' / 'golden' / 'variants.json').read_text())
    result = subprocess.run([sys.executable, str(SCRIPT)], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    rows = {line.split()[0]: line.split() for line in result.stdout.splitlines() if re.match(r'F\d', line)}
    columns = ('tensors', 'params', 'train_px', 'multiply_adds_train', 'test_px', 'multiply_adds_test')
    expected = {
        name.removeprefix('NFNet-'): [f'{figures[column]:,}' for column in columns]
        for name, figures in golden.items()
    }
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
    assert summarize.verdict(name, cost)[1] == right


def test_a_wrong_figure_is_exit_status_1(monkeypatch):
    monkeypatch.setattr(sys, 'argv', ['summarize.py'])
    monkeypatch.setattr(summarize, 'network_cost', lambda name, size: Cost(71_489_284, 233, 12_384_198_656))
    monkeypatch.setattr(summarize, 'VARIANTS', {'F0': summarize.VARIANTS['F0']})
    assert summarize.main() == 0
    monkeypatch.setattr(summarize, 'network_cost', lambda name, size: Cost(71_489_284, 233, 12_000_000_000))
    assert summarize.main() == 1


def test_multiply_adds_are_counted_by_hand_inside_nested_programs_too():
    @jax.jit
    def program(x, kernel, w):
        y = jax.lax.conv_general_dilated(
            x, kernel, (2, 2), 'SAME', dimension_numbers=('NHWC', 'HWIO', 'NHWC'), feature_group_count=4
        )
        return jax.nn.relu(jnp.mean(y, axis=(1, 2))) @ w

    traced = jax.make_jaxpr(program)(jnp.zeros((1, 7, 6, 8)), jnp.zeros((3, 3, 2, 12)), jnp.zeros((12, 5)))
    # 4 x 3 outputs of 12 channels, each over 3 x 3 x 2 values; then a 12 x 5 matrix.
    assert multiply_adds(traced.jaxpr) == 4 * 3 * 12 * 18 + 12 * 5
