"""Every call to gcloud and git that a job takes."""

import re
import shlex
from pathlib import Path
from typing import NamedTuple

from call import CallFailed, run
from job import InvalidJob, Job

ROOT = Path(__file__).resolve().parents[2]
_SENT = ('configs', 'nfnets', 'scripts', 'pyproject.toml', 'requirements.txt', 'setup.py')
_SHORT, _LONG = 300, 3600  # Seconds that a call may take: a host that was taken away may never answer.
_STATUS = (
    'if [ -e worker.py ]; then python3 worker.py status; else echo "nfnets-worker $(hostname) new |"; fi'
)
_WORKER = re.compile(r'^nfnets-worker (\S+) (new|ready|running|lost|ended -?\d+) \|(.*)$', re.MULTILINE)


class Worker(NamedTuple):
    """State of training on one host; `worker.py` explains the states."""

    host: str
    state: str
    last_line: str  # Of training's output.

    def __str__(self) -> str:
        return f'{self.host} {self.state}' + (f': {self.last_line}' if self.last_line else '')


class Cloud:
    """Operations on a job's queued resource, its TPU and its workers.

    Every method raises CallFailed if a call fails or takes too long, and InvalidJob if gcloud is missing.
    """

    def __init__(self, job: Job, is_dry: bool):
        """Args: is_dry prints the calls instead of making them."""
        self.job = job
        self.folder = Path('runs') / 'tpu' / job.name  # Below ROOT, from where all calls are made.
        self.is_dry = is_dry
        self._place = [f'--project={job.project}', f'--zone={job.zone}']
        # Of tpu-vm's commands only the alpha ones know IAP.
        track = ['alpha'] if '--tunnel-through-iap' in job.ssh_flags else []
        self._tpu_vm = ['gcloud', *track, 'compute', 'tpus', 'tpu-vm']

    # ------------------------------------------------------- The queued resource, and its TPU

    def create(self) -> None:
        flags = [f'--node-id={self.job.name}', f'--accelerator-type={self.job.accelerator}']
        flags += [f'--runtime-version={self.job.runtime_version}', *(['--spot'] if self.job.spot else [])]
        self._call(self._queued('create', *flags, *self.job.create_flags, '--quiet'), seconds=_LONG)

    def delete(self, asks: bool) -> None:
        """Args: asks makes gcloud ask whether that is meant."""
        flags = ['--force'] if asks else ['--force', '--quiet']
        self._call(self._queued('delete', *flags), seconds=_LONG, asks=asks)

    def state(self) -> str:
        """State of the queued resource: 'ACTIVE', 'SUSPENDED', ...; '' if there is none."""
        return self._value_or_none(self._queued('describe', '--format=value(state.state)'))

    def node_state(self) -> str:
        """State of its TPU: 'READY', 'PREEMPTED', ...; '' if there is none."""
        call = ['gcloud', 'compute', 'tpus', 'tpu-vm', 'describe', self.job.name]
        return self._value_or_none([*call, *self._place, '--format=value(state)'])

    # ------------------------------------------------------- The workers

    def pack(self) -> None:
        """Packs the code as it is committed: that is trained, on every new TPU, until the next `pack`."""
        if not self.is_dry:
            if changed := self._call(['git', 'status', '--porcelain', '--', *_SENT]):
                names = ', '.join(line[3:] for line in changed.splitlines())
                raise InvalidJob(f'workers get only what is committed; commit or undo: {names}')
            (ROOT / self.folder).mkdir(parents=True, exist_ok=True)
        form = ['--format=tar.gz', '--prefix=nfnets/', f'--output={self.folder}/code.tar.gz']
        self._call(['git', 'archive', *form, 'HEAD'])

    def set_up(self) -> None:
        """Sends the packed code to all workers, and installs what it needs."""
        if not self.is_dry and not (ROOT / self.folder / 'code.tar.gz').exists():
            self.pack()
        self._scp(f'{self.folder}/code.tar.gz', 'scripts/tpu/worker.py', f'{self.job.name}:', worker='all')
        more = [self.job.setup] if self.job.setup else []
        self._ssh(shlex.join(['python3', 'worker.py', 'setup', *more]), seconds=_LONG, shows=True)

    def start(self) -> list[Worker]:
        """Starts training in the background of all workers."""
        env = [f'{name}={value}' for name, value in self.job.env.items()]
        train = ['python3', 'worker.py', 'start', *self.job.train, f'--workdir={self.job.workdir}']
        return _parse(self._ssh(shlex.join(['env', *env, *train] if env else train)))

    def stop(self) -> list[Worker]:
        """Asks training to save its state and to end, and waits for that."""
        return _parse(self._ssh('python3 worker.py stop'))

    def workers(self) -> list[Worker]:
        """State of training on every worker; all were reached."""
        workers = _parse(self._ssh(_STATUS))
        if not workers and not self.is_dry:
            raise CallFailed(f'the workers of {self.job.name} did not say how training stands')
        return workers

    # ------------------------------------------------------- Results

    def fetch_workdir(self) -> Path:
        """Copies the job's workdir from its bucket; again, it copies what has changed."""
        to = self.folder / 'workdir'
        if not self.is_dry:
            (ROOT / to).mkdir(parents=True, exist_ok=True)
        call = ['gcloud', 'storage', 'rsync', self.job.workdir, str(to), '--recursive']
        self._call([*call, f'--project={self.job.project}'], seconds=_LONG, shows=True)
        return ROOT / to

    def fetch_log(self) -> Path:
        """Copies what training printed on worker 0, the one that tells of progress."""
        to = self.folder / 'log'
        if not self.is_dry:
            (ROOT / self.folder).mkdir(parents=True, exist_ok=True)
        self._scp(f'{self.job.name}:training/log', str(to), worker='0')
        return ROOT / to

    # ------------------------------------------------------- How calls are made

    def _queued(self, verb: str, *flags: str) -> list[str]:
        queued_resources = ['gcloud', 'compute', 'tpus', 'queued-resources']
        return [*queued_resources, verb, self.job.name, *self._place, *flags]

    def _ssh(self, command: str, *, seconds: int = _SHORT, shows: bool = False) -> str:
        flags = ['--worker=all', f'--command={command}', *self.job.ssh_flags, '--quiet']
        call = [*self._tpu_vm, 'ssh', self.job.name, *self._place, *flags]
        return self._call(call, seconds=seconds, shows=shows)

    def _scp(self, *paths: str, worker: str) -> None:
        flags = [f'--worker={worker}', *self.job.ssh_flags, '--quiet']
        self._call([*self._tpu_vm, 'scp', *paths, *self._place, *flags], seconds=_LONG)

    def _value_or_none(self, call: list[str]) -> str:
        try:
            return self._call(call).strip()
        except CallFailed as error:
            if 'NOT_FOUND' in str(error):
                return ''
            raise

    def _call(
        self, command: list[str], *, seconds: int = _SHORT, shows: bool = False, asks: bool = False
    ) -> str:
        if self.is_dry:
            print(shlex.join(command))
            return ''
        return run(command, ROOT, seconds=seconds, shows=shows, asks=asks)


def _parse(printed: str) -> list[Worker]:
    return sorted(Worker(host, state, log_line.strip()) for host, state, log_line in _WORKER.findall(printed))
