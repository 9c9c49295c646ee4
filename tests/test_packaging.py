"""The package as users get it: a wheel that works outside of the clone, and a library that needs little."""

import os
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest
import training_runs

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ('nfnets', 'configs', 'setup.py', 'pyproject.toml')
OTHERS = (
    *('tensorflow', 'tensorflow_datasets', 'matplotlib', 'orbax', 'ml_collections', 'tqdm', 'tensorboardX'),
    *('PIL', 'sklearn', 'array_record'),
)
CORE = """
import os, sys
before = dict(os.environ)
sys.modules.update(dict.fromkeys({others}))  # As if they were not installed.
from nfnets import NFNet, adaptive_grad_clip, load_checkpoint, __version__
assert dict(os.environ) == before
weights = load_checkpoint(sys.argv[1])
print(weights.kind, sorted(weights.params)[0], __version__)
"""


@pytest.fixture(scope='module')
def installed(tmp_path_factory):
    """The commands of a wheel in an environment of its own, which has this one's other packages."""
    directory = tmp_path_factory.mktemp('wheel')
    wheel_of = [sys.executable, '-m', 'pip', 'wheel', '--quiet', '--no-deps', '--no-build-isolation']
    # From a copy: a build leaves files behind.
    source = directory / 'source'
    tracked = subprocess.run(
        ['git', 'ls-files', '-z', '--cached', '--others', '--exclude-standard', *SOURCE],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    for name in filter(None, tracked.split('\0')):
        if (ROOT / name).exists():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes((ROOT / name).read_bytes())
    subprocess.run([*wheel_of, '--wheel-dir', str(directory), str(source)], check=True)
    [wheel] = directory.glob('*.whl')
    venv.create(directory / 'venv', with_pip=False, symlinks=True)
    python = directory / 'venv' / 'bin' / 'python'
    install = [
        sys.executable,
        '-m',
        'pip',
        '--python',
        str(python),
        'install',
        '--quiet',
        '--no-deps',
        str(wheel),
    ]
    subprocess.run(install, check=True)
    [packages] = (directory / 'venv').glob('lib/*/site-packages')
    # Lines of the clone's own .pth files are not read from there, so that its code cannot be found.
    (packages / 'others.pth').write_text(sysconfig.get_path('purelib') + '\n')
    return python.parent


def _run(command, cwd):
    # As users have it: compiled with all optimizations, for the devices that there are.
    of_tests = ('PYTHONPATH', 'JAX_DISABLE_MOST_OPTIMIZATIONS', 'XLA_FLAGS')
    environment = {name: value for name, value in os.environ.items() if name not in of_tests}
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)


def test_a_wheel_trains_outside_of_the_clone_with_its_own_configs(installed, tmp_path):
    where = _run(
        [installed / 'python', '-c', 'import nfnets.configs; print(nfnets.configs.__file__)'], tmp_path
    )
    assert 'site-packages/nfnets/configs/__init__.py' in where.stdout, where.stderr
    settings = [f'--config.{name}={value}' for name, value in training_runs.TINY.items()]
    run = _run([installed / 'nfnets-train', '--config=digits', '--workdir=run', *settings], tmp_path)
    assert run.returncode == 0, run.stderr
    assert (tmp_path / 'run' / 'checkpoints' / '12').is_dir()


COMMANDS = ('train', 'evaluate', 'predict', 'convert', 'export', 'report', 'plan', 'publish')


@pytest.mark.parametrize('command', COMMANDS)
def test_every_command_is_installed(installed, command):
    assert os.access(installed / f'nfnets-{command}', os.X_OK)


def test_the_library_needs_neither_tensorflow_nor_what_trains_and_sets_no_environment(tmp_path):
    import tiny_network
    from etils import epath

    from nfnets.weights.about import About
    from nfnets.weights.save import save_checkpoint

    path = tmp_path / 'net.npz'
    save_checkpoint(epath.Path(path), 'npz', tiny_network.params(num_classes=10), About())
    run = _run([sys.executable, '-c', CORE.replace('{others}', str(OTHERS)), str(path)], tmp_path)
    assert run.stdout.split()[:2] == ['npz', 'NFNet/~/final_conv'], run.stderr
