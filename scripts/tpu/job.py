"""Reads a job, a TOML file such as f0_v4_32.toml: what to train, and on which TPU."""

import re
import tomllib
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import Any

# The runtime version for JAX on each kind of TPU: https://cloud.google.com/tpu/docs/runtimes
RUNTIMES = {
    'v2': 'tpu-ubuntu2204-base',
    'v3': 'tpu-ubuntu2204-base',
    'v4': 'tpu-ubuntu2204-base',
    'v5litepod': 'v2-alpha-tpuv5-lite',
    'v5p': 'v2-alpha-tpuv5',
    'v6e': 'v2-alpha-tpuv6e',
}
_FORMS: dict[Any, str] = {
    str: 'a text',
    bool: 'true or false',
    list[str]: 'a list of texts',
    dict[str, str]: 'a table of texts',
}


class LaunchError(Exception):
    """The request cannot be carried out; the message is one line."""


class InvalidJob(LaunchError):
    """Something is wrong with what was given, or missing on this machine."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """The keys of the file; those with a default are optional."""

    name: str  # Of the queued resource and of its TPU.
    project: str  # Of Google Cloud.
    zone: str
    accelerator: str  # KIND-SIZE as Google counts it, 'v4-32'.
    spot: bool  # Cheaper, and taken away at any time.
    workdir: str  # A directory in a bucket, 'gs://...'.
    train: list[str]  # What scripts/train.py is given besides.
    runtime: str = ''  # Empty: the one for JAX on this kind of TPU.
    setup: str = ''  # A command for every host, run after all else is set up.
    env: dict[str, str] = field(default_factory=dict)  # Environment of training.
    create_flags: list[str] = field(default_factory=list)  # More for `queued-resources create`.
    ssh_flags: list[str] = field(default_factory=list)  # More for `tpu-vm ssh` and `tpu-vm scp`.

    @property
    def runtime_version(self) -> str:
        return self.runtime or RUNTIMES[self.accelerator.split('-')[0]]


def read_job(path: Path) -> Job:
    """Reads and checks a job.

    Raises:
      InvalidJob: the file cannot be read, or something in it is missing, unknown or impossible.
    """
    try:
        values = tomllib.loads(path.read_text())
        _check_keys(values)
        job = Job(**values)
        _check(job)
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, InvalidJob) as error:
        raise InvalidJob(f'{path}: {error}') from error
    return job


def _check_keys(values: dict[str, Any]) -> None:
    known = {f.name: f for f in fields(Job)}
    if unknown := [key for key in values if key not in known]:
        raise InvalidJob(f'unknown {", ".join(unknown)}; there are {", ".join(known)}')
    required = [name for name, f in known.items() if f.default is MISSING and f.default_factory is MISSING]
    if missing := [name for name in required if name not in values]:
        raise InvalidJob(f'missing: {", ".join(missing)}')
    for key, value in values.items():
        if not _is_of(known[key].type, value):
            raise InvalidJob(f'{key} = {value!r} must be {_FORMS[known[key].type]}')


def _is_of(form: Any, value: Any) -> bool:
    if form == list[str]:
        return isinstance(value, list) and all(isinstance(v, str) for v in value)
    if form == dict[str, str]:
        return isinstance(value, dict) and all(isinstance(v, str) for v in value.values())
    return isinstance(value, form)


def _check(job: Job) -> None:
    for text in (job.project, job.workdir, job.setup, *job.train):
        if found := re.search(r'\b(PROJECT|BUCKET)\b', text):
            raise InvalidJob(f'{text!r}: put your own in place of {found[0]}')
    if not re.fullmatch(r'[a-z]([-a-z0-9]{0,38}[a-z0-9])?', job.name):
        raise InvalidJob(f'name = {job.name!r} must be small letters, digits and -, at most 40')
    kind, _, size = job.accelerator.partition('-')
    if not size.isdigit() or (kind not in RUNTIMES and not job.runtime):
        raise InvalidJob(
            f'accelerator = {job.accelerator!r} must be KIND-SIZE, KIND one of {", ".join(RUNTIMES)}, '
            'or another for which runtime is given'
        )
    if not re.fullmatch(r'gs://[^/]+/.+', job.workdir):
        raise InvalidJob(f'workdir = {job.workdir!r} must be gs://BUCKET/DIRECTORY: disks go with the TPU')
    if not any(argument.startswith('--config=') for argument in job.train):
        raise InvalidJob(f'train = {job.train} has no --config=FILE')
    if any(argument.startswith('--workdir') for argument in job.train):
        raise InvalidJob('train has --workdir; workdir is a key of its own')
