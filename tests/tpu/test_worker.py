"""What runs on the hosts, run here, with small programs in place of uv and of training."""

import os
import signal
import subprocess
import sys
import time

import pytest
from tpu_calls import SEND, SETUP, START

pytestmark = pytest.mark.skipif(sys.platform != 'linux', reason='the hosts of TPUs run Linux')


@pytest.fixture
def worker(pod):
    """`worker.py` of a host that was set up."""
    worker = Worker(pod)
    worker.send()
    worker('setup')
    return worker


class Worker:
    def __init__(self, pod):
        self.pod, self.home = pod, pod.homes[0]
        self.training = self.home / 'training'
        self.environment = {
            **os.environ,
            'HOME': str(self.home),
            'PATH': f'{pod.bin}:{os.environ["PATH"]}',
            'SOME': 'thing',
        }

    def send(self):
        archive = ['git', 'archive', '--format=tar.gz', '--prefix=nfnets/', 'HEAD']
        with (self.home / 'code.tar.gz').open('wb') as file:
            subprocess.run(archive, cwd=self.pod.clone, stdout=file, check=True)

    def __call__(self, *arguments, expected=0, before='pass'):
        scripts = self.pod.clone / 'scripts' / 'tpu'
        program = (
            f'import sys; sys.path[0] = {str(scripts)!r}; import worker; {before}; worker.main(*sys.argv[1:])'
        )
        run = subprocess.run(
            [sys.executable, '-S', '-c', program, *arguments],
            cwd=self.home,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert run.returncode == expected, run.stdout + run.stderr
        return run.stdout.splitlines()[-1].partition(' ')[2] if expected == 0 else run.stderr

    def ends(self, *how):
        (self.home / 'ends').write_text(' '.join(how))

    def starts(self, *arguments):
        """Starts training that does not end by itself; when it is under way, returns
        the processes that wait for it and that train."""
        self.ends('sleep')
        self('start', *arguments)
        while '%' not in (self.training / 'log').read_text():
            time.sleep(0.02)
        return int((self.training / 'pid').read_text()), int((self.home / 'pid').read_text())


def _wait_for(state, worker):
    for _ in range(500):
        line = worker('status')
        if f' {state} |' in line:
            return line
        time.sleep(0.02)
    raise AssertionError(line)


def test_set_up_installs_python_and_the_pinned_versions(pod):
    worker = Worker(pod)
    worker.send()
    (worker.home / 'nfnets').mkdir()
    (worker.home / 'nfnets' / 'left over').touch()
    assert worker('setup').endswith(' ready | ')
    assert (worker.home / 'nfnets' / 'scripts' / 'train.py').exists()
    assert not (worker.home / 'nfnets' / 'left over').exists()
    assert (worker.home / 'installed').read_text().splitlines() == [
        'curl -LsSf --retry 5 -o install_uv.sh https://astral.sh/uv/0.13.9/install.sh',
        'uv venv --quiet --allow-existing --python 3.11 venv',
        'uv pip install --quiet --python venv/bin/python --constraints nfnets/requirements.txt '
        '--editable ./nfnets[train,tpu,cloud]',
    ]
    worker('setup')  # New code on the same host.


def test_set_up_ends_with_a_command_of_the_job(pod):
    worker = Worker(pod)
    worker.send()
    assert ' ready |' in worker('setup', 'ls nfnets/scripts > listed && echo "$HOME" >> listed')
    assert (worker.home / 'listed').read_text().split() == ['tpu', 'train.py', str(worker.home)]
    assert 'sh failed with status 3' in worker('setup', 'exit 3', expected=1)
    assert ' new |' in worker('status')


def test_a_set_up_that_fails_is_none(worker):
    (worker.home / 'no-network').touch()
    error = worker('setup', expected=1)
    assert f'{worker.home}/uv/uv failed with status 1' in error
    assert ' new |' in worker('status')
    (worker.home / 'no-network').unlink()
    assert ' ready |' in worker('setup')


def test_training_runs_in_the_background_with_its_log_until_it_ends(worker):
    worker.ends('0')
    assert worker('status').endswith(' ready | ')
    worker('start', '--config=a', '--b=c d')
    assert _wait_for('ended 0', worker).endswith('| error: this is why')
    given = "given ['--config=a', '--b=c d'] thing\nerror: this is why\n"
    assert (worker.training / 'log').read_text() == given
    worker.ends('2')
    worker('start')
    _wait_for('ended 2', worker)
    assert ' ready |' in worker('setup')
    assert (worker.training / 'log').read_text().startswith(given + 'given []')


def test_it_is_started_only_once(worker):
    worker.starts()
    assert 'training is under way here already' in worker('start', expected=1)
    assert 'training is under way here: stop it' in worker('setup', expected=1)
    worker('stop')


def test_the_state_comes_with_the_last_line_of_the_progress_bar(worker):
    worker.starts()
    assert worker('status').endswith(' running | training: 2% [99 images/s]')
    worker('stop')


def test_stop_lets_training_save_its_state(worker):
    assert worker('stop').endswith(' ready | ')
    worker.starts()
    assert ' ended 75 |' in worker('stop')


def test_stop_kills_training_that_does_not_end(worker):
    worker.starts('deaf')
    assert ' lost |' in worker('stop', before='worker.GRACE = 0.3')


def test_what_was_killed_from_outside_is_known_as_such(worker):
    worker.ends('killed')
    worker('start')
    _wait_for('ended -9', worker)


def test_a_host_that_was_rebooted_is_set_up_anew(worker):
    (worker.training / 'ready').write_text('another boot')
    assert ' new |' in worker('status')


def test_training_that_was_killed_with_all_is_lost(worker):
    worker.ends('0')
    worker('start')
    _wait_for('ended 0', worker)
    for pid in worker.starts():
        os.kill(pid, signal.SIGKILL)
    _wait_for('lost', worker)


def test_training_is_under_way_while_only_it_is_left(worker):
    waiting, training = worker.starts()
    os.kill(waiting, signal.SIGKILL)
    time.sleep(0.1)
    assert ' running |' in worker('status')
    os.kill(training, signal.SIGKILL)
    _wait_for('lost', worker)


def test_from_setup_to_the_end_on_two_workers(pod):
    """All of it, but for the cloud and the network."""
    for home, ends in zip(pod.homes, ['75 killed 0', '75 1 0'], strict=True):
        (home / 'ends').write_text(ends)
    run = pod('watch', pod.job, '--every=0.05')
    assert (run.returncode, run.stderr) == (0, '')
    did = [call for call in pod.calls() if ' describe ' not in call and 'worker.py status' not in call]
    assert did == [SEND, SETUP, START, START, START]
    assert 'f0: training ended: 1 ended -9, 1 ended 1; ' in run.stdout
    given = "['--config=imagenet:F0', '--config.data.dir=gs://my-bucket/data', "
    given += "'--workdir=gs://my-bucket/runs/f0']"
    for home in pod.homes:
        assert (home / 'training' / 'log').read_text().count(f'given {given} None\n') == 3
    assert pod('fetch', pod.job).returncode == 0
    assert (pod.clone / 'runs' / 'tpu' / 'f0' / 'log').read_text().count('given') == 3
    assert not pod('stop', pod.job).stderr
