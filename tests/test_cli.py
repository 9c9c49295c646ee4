"""What a user sees who makes a mistake: one line, exit status 2, nothing written."""

import subprocess
import sys
from pathlib import Path

import pytest

from configs import default
from nfnets.config import flatten
from nfnets.models.networks import NETWORKS

ROOT = Path(__file__).resolve().parents[1]


def _train(*arguments: str) -> subprocess.CompletedProcess:
    command = [sys.executable, str(ROOT / 'scripts' / 'train.py'), *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ('arguments', 'expected'),
    [
        (['--config.train.batch_sise=3'], ['train.batch_sise=3', 'did you mean train.batch_size?']),
        (
            ['--config.batch_size=3'],
            ['config.batch_size', 'did you mean eval.batch_size or train.batch_size?'],
        ),
        (['--config.train=3'], ['train is a group of settings', 'batch_size']),
        (['--config.train.batch_size=many'], ['train.batch_size=many', 'a whole number']),
        (['--config.train.batch_size=0'], ['train.batch_size=0', 'more than 0']),
        (['--config.model.variant=F9'], ["'F9'", 'F0, F1', 'F7+']),
        (['--config.data.source=digitz'], ["'digitz'", 'digits', 'folder', 'tfds']),
        (['--wrokdir=x'], ['wrokdir']),
    ],
    ids=lambda value: value[0],
)
def test_a_mistake_costs_one_line_and_writes_nothing(tmp_path, arguments, expected):
    workdir = tmp_path / 'run'
    result = _train('--config=configs/digits.py', f'--workdir={workdir}', *arguments)
    assert result.returncode == 2, result.stderr
    (line,) = [line for line in result.stderr.splitlines() if line.startswith('error:')]
    for part in expected:
        assert part in line
    assert 'Traceback' not in result.stderr
    assert not workdir.exists()


def test_an_unknown_variant_of_a_config_file_is_named():
    result = _train('--config=configs/imagenet.py:F9', '--workdir=x')
    assert result.returncode == 2
    assert "error: unknown variant 'F9'; there are F0, F1" in result.stderr


def test_a_missing_config_file_is_named():
    result = _train('--config=configs/nothing.py', '--workdir=x')
    assert result.returncode == 2
    assert 'configs/nothing.py' in result.stderr
    assert 'Traceback' not in result.stderr


def test_help_lists_every_setting_network_and_config_file():
    result = _train('--config=configs/digits.py', '--help')
    assert (result.returncode, result.stderr) == (0, '')
    for key, value in flatten(default.get_config().to_dict()).items():
        assert f'  {key}={str(value).replace(", ", ",")}' in result.stdout
    in_one_line = ' '.join(result.stdout.split())
    for name, kind in NETWORKS.items():
        assert f' {name} {", ".join(kind.variants)}' in in_one_line
    for path in (ROOT / 'configs').glob('*.py'):
        assert f'  configs/{path.name}\n' in result.stdout
    for told in ('--workdir: ', 'baseline, widths', 'Peak rate for each 256 images', 'Variants: B0, B1, B2'):
        assert told in in_one_line
