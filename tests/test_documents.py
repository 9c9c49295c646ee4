"""Every command in README.md and docs/ runs here, is run by another test, or is marked as one that is not."""

import os
import re
import shlex
import subprocess
from pathlib import Path

import forge
import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = (ROOT / 'README.md', *sorted((ROOT / 'docs').glob('*.md')))
MARKS = ('# not run here', '# run by hand')
# What other tests run, by how it begins.
ELSEWHERE = {
    'make train': 'tests/test_documents.py',
    'make test': '.ci/run',
    'nfnets-plan': 'tests/planning/test_plan.py',
    'python scripts/summarize.py': 'tests/models/test_cost.py',
    'python scripts/experiments/ablate.py': 'tests/scripts/test_ablate.py',
    'python scripts/experiments/transfer.py': 'tests/scripts/test_transfer.py',
    'python scripts/experiments/fashion_mnist.py': 'tests/scripts/test_fashion_mnist.py',
    'python scripts/experiments/scenes.py': 'tests/scripts/test_scenes.py',
    'python scripts/experiments/backbones.py': 'tests/scripts/test_backbones.py',
    'python scripts/experiments/speed.py': 'tests/scripts/test_speed.py',
    'nfnets-predict DIR/val': 'tests/inference/test_detector.py',
    'python scripts/experiments/batch_statistics.py': 'tests/scripts/test_batch_statistics.py',
    'python scripts/experiments/record.py': 'tests/scripts/test_record.py',
    'python scripts/experiments/page.py': 'tests/scripts/test_record.py',
    'python scripts/experiments/signal_propagation.py': 'tests/models/test_signal_propagation.py',
}
# Of runs that are documented at full size; what is read of them later, and what is not.
SMALL = (
    *('--config.model.widths=32', '--config.model.depths=1', '--config.model.group_width=8'),
    *('--config.data.train_size=8', '--config.data.eval_size=8'),
)
SHORT = ('--config.train.batch_size=16', '--config.train.steps=2', '--config.optimizer.warmup_steps=1')
# What is traced in half the time that an NFNet takes, where a command does not name its network.
SOON = ('--config.model.name=NFResNet', '--config.model.variant=ResNet50', '--config.model.group_width=None')


def _commands():
    """Each command in a block of shell, with its document; not those that are marked."""
    for document in DOCUMENTS:
        for block in re.findall(r'^```sh\n(.*?)^```', document.read_text(), re.DOTALL | re.MULTILINE):
            if block.startswith(MARKS):
                continue
            for line in block.replace('\\\n', ' ').splitlines():
                command = line.partition(' #')[0].strip()
                if command and not command.startswith('#') and not any(mark in line for mark in MARKS):
                    yield document.name, command


def _is_elsewhere(command):
    return any(command.startswith(known) for known in ELSEWHERE)


HERE = list(dict.fromkeys(command for _, command in _commands() if not _is_elsewhere(command)))


def test_no_command_is_neither_run_nor_marked():
    unknown = [pair for pair in _commands() if pair[1] in HERE and not pair[1].startswith('nfnets-')]
    assert not unknown


@pytest.mark.parametrize(('command', 'place'), ELSEWHERE.items())
def test_other_commands_are_run_by_the_test_they_name(command, place):
    script = re.search(r'(\w+)\.py|nfnets-(\w+)|make', command)
    assert (script[1] or script[2] or 'make') in (ROOT / place).read_text()


def test_make_train_trains_the_recipe_for_digits():
    environment = {name: value for name, value in os.environ.items() if name not in ('ARGS', 'WORKDIR')}
    make = ['make', '--no-print-directory', '--dry-run', 'train']
    printed = subprocess.run(
        make, cwd=ROOT, env=environment, check=True, capture_output=True, text=True
    ).stdout
    last = printed.splitlines()[-1]  # The installation is before it, if it is not up to date.
    assert last.split() == ['.venv/bin/nfnets-train', '--config=digits', '--workdir=runs/digits']


def test_the_documents_have_commands():
    assert {command.split()[0] for command in HERE} == {
        f'nfnets-{name}'
        for name in ('train', 'evaluate', 'predict', 'convert', 'export', 'publish', 'report')
    }


def test_the_readme_is_short():
    assert len((ROOT / 'README.md').read_bytes()) <= 7000


def test_every_command_runs(tmp_path):
    rng = np.random.default_rng(0)
    for split in ('train', 'val'):
        for name in ('cat', 'owl'):
            folder = tmp_path / 'DATA' / split / name
            folder.mkdir(parents=True)
            for index in range(8):
                pixels = rng.integers(0, 256, (12, 12, 3), np.uint8)
                Image.fromarray(pixels).save(folder / f'{index}.png')
    for command in sorted(HERE, key=_order):
        name, *words = shlex.split(command)
        if name == 'nfnets-train' and '--config=small' not in words:
            words = [*(word.replace('--workdir=RUN', '--workdir=OTHER') for word in words), *SMALL]
        elif '--config=small' in words:
            words += [*SMALL, *SOON]
        if name == 'nfnets-train':
            words += SHORT
        (tmp_path / words[-1]).unlink(missing_ok=True)  # Of a conversion that another document shows, too.
        run = forge.start(name.removeprefix('nfnets-'), words, directory=tmp_path)
        output, _ = run.communicate(timeout=120)
        assert run.returncode == 0, f'{command}\n{output}'
    assert (tmp_path / 'report.html').stat().st_size > 10_000


def _order(command):
    """Training first, then what needs its run, then what needs its published file."""
    return not command.startswith('nfnets-train'), 'convert' not in command, 'model.npz' in command
