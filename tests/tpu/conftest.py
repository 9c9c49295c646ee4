"""A small clone of this project, a job, and in place of gcloud `fake_gcloud.py`."""

import json
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
JOB = """
name = "f0"
project = "my-project"
zone = "us-central2-b"
accelerator = "v4-32"
spot = true
workdir = "gs://my-bucket/runs/f0"
train = ["--config=imagenet:F0", "--config.data.dir=gs://my-bucket/data"]
"""
# In place of training: it says what it was given, and ends as the file `ends` in the home directory says.
TRAIN = """
import os, signal, sys, time
from pathlib import Path
if 'deaf' in sys.argv:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
(Path.home() / 'pid').write_text(str(os.getpid()))
print('given', sys.argv[1:], os.environ.get('SOME'), flush=True)
ends = Path.home() / 'ends'
first, *rest = ends.read_text().split() if ends.exists() else ['sleep']
ends.write_text(' '.join(rest))
if first == 'sleep':
    if 'deaf' not in sys.argv:
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(75))
    print('training: 1% [100 images/s]\\rtraining: 2% [99 images/s]\\r', end='', flush=True)
    time.sleep(60)
elif first == 'killed':
    os.kill(os.getpid(), signal.SIGKILL)
else:
    print('error: this is why')
    sys.exit(int(first))
"""
CURL = """#!/bin/sh
echo curl "$@" >> $HOME/installed
cp "$(dirname "$0")/install_uv" install_uv.sh
"""
INSTALL_UV = 'mkdir -p "$UV_INSTALL_DIR" && cp "$(dirname $(which curl))"/uv "$UV_INSTALL_DIR"/uv\n'
UV = """#!/bin/sh
echo uv "$@" >> $HOME/installed
if [ -e $HOME/no-network ]; then exit 1; fi
mkdir -p $HOME/venv/bin && ln -sf {python} $HOME/venv/bin/python
"""


class Pod:
    """Runs `pod.py` in the clone, and knows the calls that it made."""

    def __init__(self, path):
        self.clone, self.bin, self.job = path / 'clone', path / 'bin', path / 'f0.toml'
        self.homes = [self.bin / 'worker-0', self.bin / 'worker-1']

    def answer(self, *answers):
        """What gcloud will answer, in order: (the call, what it prints[, exit status])."""
        (self.bin / 'answers').write_text(json.dumps([(*answer, 0)[1:3] for answer in answers]))

    def __call__(self, *arguments, path=None):
        pod = [sys.executable, '-S', str(self.clone / 'scripts' / 'tpu' / 'pod.py')]
        environment = {**os.environ, 'PATH': path or f'{self.bin}:{os.environ["PATH"]}'}
        return subprocess.run(
            [*pod, *map(str, arguments)],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )

    def calls(self):
        lines = (self.bin / 'calls').read_text().splitlines()
        return [shlex.join(['gcloud', *json.loads(line)]) for line in lines]

    def unanswered(self):
        return json.loads((self.bin / 'answers').read_text())


def _make_clone(clone):
    shutil.copytree(ROOT / 'scripts' / 'tpu', clone / 'scripts' / 'tpu')
    (clone / 'scripts' / 'train.py').write_text(TRAIN)
    (clone / '.gitignore').write_text('/runs/\n__pycache__/\n')
    user = '-c user.name=a -c user.email=b'
    for command in ('init --quiet --template=', 'add .', f'{user} commit --quiet --message=c'):
        subprocess.run(['git', *command.split()], cwd=clone, check=True)


def _make_tools(path):
    tools = {
        'gcloud': f'#!{sys.executable} -SE\n' + (Path(__file__).parent / 'fake_gcloud.py').read_text(),
        'python3': f'#!/bin/sh\nexec {sys.executable} -S "$@"\n',
        'curl': CURL,
        'install_uv': INSTALL_UV,
        'uv': UV.format(python=sys.executable),
    }
    for name, text in tools.items():
        (path / name).write_text(text)
        (path / name).chmod(0o755)


@pytest.fixture(scope='session')
def made(tmp_path_factory):
    path = tmp_path_factory.mktemp('made')
    _make_clone(path / 'clone')
    (path / 'bin' / 'worker-0').mkdir(parents=True)
    (path / 'bin' / 'worker-1').mkdir()
    _make_tools(path / 'bin')
    (path / 'bin' / 'calls').touch()
    (path / 'f0.toml').write_text(JOB)
    return path


@pytest.fixture
def pod(made, tmp_path):
    shutil.copytree(made, tmp_path / 'pod')
    return Pod(tmp_path / 'pod')


@pytest.fixture
def scripts(monkeypatch):
    """scripts/tpu, where its modules are imported from until the test ends."""
    folder = ROOT / 'scripts' / 'tpu'
    monkeypatch.syspath_prepend(folder)
    yield folder
    for file in folder.glob('*.py'):
        sys.modules.pop(file.stem, None)
