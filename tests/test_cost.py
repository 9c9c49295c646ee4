"""Parameters and multiply-adds of every variant are the published ones."""

import json
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def test_the_summary_agrees_with_the_released_code_for_every_variant():
    golden = json.loads((ROOT / 'tests' / 'golden' / 'variants.json').read_text())
    command = [sys.executable, str(ROOT / 'scripts' / 'summarize.py')]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    rows = {line.split()[0]: line for line in result.stdout.splitlines() if re.match(r'F\d', line)}
    assert set(rows) == {name.removeprefix('NFNet-') for name in golden}
    for name, figures in golden.items():
        row = rows[name.removeprefix('NFNet-')]
        assert row.split()[1:6] == [
            f'{figures["params"]:,}',
            str(figures['train_px']),
            f'{figures["multiply_adds_train"] / 1e9:.2f}',
            str(figures['test_px']),
            f'{figures["multiply_adds_test"] / 1e9:.2f}',
        ]
    assert sum('agrees' in row for row in rows.values()) == 7
    assert [name for name, row in rows.items() if 'differs' in row.lower()] == ['F4+']
