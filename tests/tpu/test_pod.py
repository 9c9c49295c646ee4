"""The calls of each command, to the letter, and mistakes, which cost one line."""

import shlex
import time

import pytest
from tpu_calls import (
    CREATE,
    DELETE,
    DELETE_UNASKED,
    FETCH,
    FETCH_LOG,
    NODE,
    PACK,
    PLACE,
    QUEUED,
    SEND,
    SETUP,
    START,
    STATE,
    STATUS,
    STOP,
)


@pytest.mark.parametrize(
    ('command', 'expected'),
    [
        ('create', [PACK, CREATE]),
        ('setup', [PACK, SEND, SETUP]),
        ('start', [START]),
        ('status', [STATE, STATUS]),
        ('stop', [STOP]),
        ('fetch', [FETCH, FETCH_LOG]),
        ('delete', [DELETE]),
        (
            'watch --every=30 --delete',
            [
                '# every 30 s',
                *(STATE, STATUS),
                '# if the workers do not answer',
                NODE,
                '# on a new TPU',
                *(SEND, SETUP, START),
                '# if training ended, but has not finished',
                START,
                '# if it ended on some workers and still runs on others',
                STOP,
                '# if the TPU was taken away',
                *(DELETE_UNASKED, CREATE),
                '# at the end',
                *(FETCH_LOG, DELETE_UNASKED),
            ],
        ),
    ],
)
def test_a_dry_run_prints_the_calls_and_makes_none(pod, command, expected):
    command, *flags = command.split()
    run = pod(command, pod.job, *flags, '--dry-run')
    assert (run.returncode, run.stderr) == (0, '')
    assert run.stdout.splitlines() == expected
    assert not pod.calls()
    assert not (pod.clone / 'runs').exists()


@pytest.mark.parametrize(
    ('command', 'answers', 'printed'),
    [
        (
            'create',
            [('queued-resources create', '')],
            'asked for f0, a TPU v4-32 in us-central2-b of my-project',
        ),
        (
            'delete',
            [('queued-resources delete', '')],
            'Deletes queued resource f0 of my-project in us-central2-b, its TPU and its disks.\n\n'
            'Deleted; gs://my-bucket/runs/f0 stays as it is.',
        ),
        (
            'status',
            [
                ('queued-resources describe', 'ACTIVE'),
                ('tpu-vm ssh', 'nfnets-worker h1 running | 99 images/s\nnfnets-worker h0 ended -9 |'),
            ],
            'queued resource f0: ACTIVE\nh0 ended -9\nh1 running: 99 images/s',
        ),
        (
            'status',
            [('queued-resources describe', "ERROR: (gcloud.x) NOT_FOUND: Resource 'f0' was not found", 1)],
            'queued resource f0: there is none',
        ),
    ],
)
def test_what_is_called_is_what_a_dry_run_prints(pod, command, answers, printed):
    dry = pod(command, pod.job, '--dry-run').stdout.splitlines()
    pod.answer(*answers)
    run = pod(command, pod.job)
    assert (run.returncode, run.stderr) == (0, '')
    assert run.stdout.strip() == printed
    assert pod.calls() == [line for line in dry if line.startswith('gcloud')][: len(answers)]
    assert not pod.unanswered()


def _change(pod, **changes):
    lines = pod.job.read_text().splitlines()
    kept = [line for line in lines if line.split(' ')[0] not in changes]
    pod.job.write_text('\n'.join([*kept, *(f'{key} = {value}' for key, value in changes.items() if value)]))


def _dry(pod, command, **changes):
    _change(pod, **changes)
    return pod(command, pod.job, '--dry-run').stdout.splitlines()[-1:]


@pytest.mark.parametrize(
    ('accelerator', 'runtime'),
    [
        ('v3-32', 'tpu-ubuntu2204-base'),
        ('v5litepod-16', 'v2-alpha-tpuv5-lite'),
        ('v5p-32', 'v2-alpha-tpuv5'),
        ('v6e-16', 'v2-alpha-tpuv6e'),
    ],
)
def test_the_runtime_follows_from_the_accelerator(pod, accelerator, runtime):
    (create,) = _dry(pod, 'create', accelerator=f'"{accelerator}"')
    assert f'--accelerator-type={accelerator} --runtime-version={runtime} ' in create


def test_a_reserved_tpu_on_a_network_of_its_own_that_only_iap_reaches(pod):
    (create,) = _dry(
        pod,
        'create',
        spot='false',
        runtime='"my-runtime"',
        create_flags='["--reserved", "--internal-ips", "--network=n", "--subnetwork=s"]',
        ssh_flags='["--tunnel-through-iap"]',
    )
    assert create == (
        f'{QUEUED} create f0 {PLACE} --node-id=f0 --accelerator-type=v4-32 --runtime-version=my-runtime '
        '--reserved --internal-ips --network=n --subnetwork=s --quiet'
    )
    alpha = STOP.replace('gcloud compute', 'gcloud alpha compute')
    assert _dry(pod, 'stop') == [alpha.replace("' --quiet", "' --tunnel-through-iap --quiet")]


def test_commands_for_the_workers_keep_their_quotes(pod):
    copy = 'gcloud storage rsync gs://my-bucket/data /dev/shm/data'
    _change(pod, setup=f'"{copy}"', env='{ JAX_COORDINATOR_PORT = "8476", LIBTPU_INIT_ARGS = "--a --b" }')
    assert _command_of(pod, 'setup') == ['python3', 'worker.py', 'setup', copy]
    env = ['env', 'JAX_COORDINATOR_PORT=8476', 'LIBTPU_INIT_ARGS=--a --b']
    assert _command_of(pod, 'start')[:6] == [*env, 'python3', 'worker.py', 'start']


def _command_of(pod, command):
    (call,) = _dry(pod, command)
    (word,) = [word for word in shlex.split(call) if word.startswith('--command=')]
    return shlex.split(word.removeprefix('--command='))


@pytest.mark.parametrize(
    ('changes', 'expected'),
    [
        ({'zone': None}, 'missing: zone'),
        ({'color': '"red"'}, 'unknown color; there are name, project, zone'),
        ({'spot': '"yes"'}, "spot = 'yes' must be true or false"),
        ({'train': '"--config=a"'}, "train = '--config=a' must be a list of texts"),
        ({'env': '{ A = 1 }'}, "env = {'A': 1} must be a table of texts"),
        ({'project': '"PROJECT"'}, "'PROJECT': put your own in place of PROJECT"),
        ({'workdir': '"gs://BUCKET/runs/f0"'}, 'put your own in place of BUCKET'),
        ({'setup': '"ls gs://BUCKET"'}, 'put your own in place of BUCKET'),
        ({'workdir': '"/tmp/f0"'}, "workdir = '/tmp/f0' must be gs://BUCKET/DIRECTORY"),
        ({'name': '"F0"'}, "name = 'F0' must be small letters, digits and -"),
        ({'accelerator': '"h100-8"'}, "accelerator = 'h100-8' must be KIND-SIZE, KIND one of v2, v3, v4,"),
        ({'accelerator': '"v4"'}, "accelerator = 'v4' must be KIND-SIZE"),
        ({'train': '["--config.seed=1"]'}, 'has no --config=FILE'),
        ({'train': '["--config=a", "--workdir=b"]'}, 'workdir is a key of its own'),
        ({'zone': '"a'}, 'Unterminated string'),
    ],
    ids=str,
)
@pytest.mark.usefixtures('scripts')
def test_an_invalid_setting_of_a_job_is_named(pod, changes, expected):
    import job

    _change(pod, **changes)
    with pytest.raises(job.InvalidJob) as raised:
        job.read_job(pod.job)
    assert str(raised.value).startswith(f'{pod.job}: ')
    assert expected in str(raised.value)


def test_the_jobs_that_come_along_ask_for_project_and_bucket_alone(pod):
    for name in ('f0_v4_32', 'f5_v4_256'):
        text = (pod.clone / 'scripts' / 'tpu' / f'{name}.toml').read_text()
        pod.job.write_text(text)
        assert 'put your own in place of PROJECT' in pod('create', pod.job, '--dry-run').stderr
        pod.job.write_text(text.replace('PROJECT', 'mine').replace('BUCKET', 'my-bucket'))
        create = pod('create', pod.job, '--dry-run').stdout
        assert f' --accelerator-type={name.partition("_")[2].replace("_", "-")} ' in create


def test_a_job_that_is_not_there_costs_one_line(pod):
    run = pod('create', 'nothing.toml')
    assert run.returncode == 2
    assert run.stderr == "error: nothing.toml: [Errno 2] No such file or directory: 'nothing.toml'\n"


def test_without_gcloud_the_one_line_names_where_to_get_it(pod):
    run = pod('status', pod.job, path='/nowhere')
    assert run.returncode == 2
    assert (
        run.stderr
        == 'error: gcloud is not installed, or not in PATH: https://cloud.google.com/sdk/docs/install\n'
    )


@pytest.mark.parametrize(
    ('printed', 'reason'),
    [
        (
            'Create request issued\nERROR: (gcloud) Quota exhausted\n- more of it\n',
            'ERROR: (gcloud) Quota exhausted',
        ),
        ('Traceback\nOSError: no space left\n\n', 'OSError: no space left'),
        ('', ''),
    ],
)
def test_a_failing_call_costs_one_line_with_its_reason(pod, printed, reason):
    pod.answer(('queued-resources create', printed, 1))
    run = pod('create', pod.job)
    assert run.returncode == 1
    named = 'gcloud compute tpus queued-resources create f0'
    assert run.stderr == f'error: `{named}` failed with status 1: {reason}\n'


def test_only_committed_code_is_sent(pod):
    (pod.clone / 'scripts' / 'train.py').write_text('changed')
    (pod.clone / 'scripts' / 'new.py').touch()
    (pod.clone / 'mine.toml').touch()
    run = pod('create', pod.job)
    assert run.returncode == 2
    assert run.stderr == (
        'error: workers get only what is committed; commit or undo: scripts/train.py, scripts/new.py\n'
    )
    assert not pod.calls()


def test_a_log_that_cannot_be_fetched_does_not_hide_the_results(pod):
    pod.answer(('storage rsync', ''), ('tpu-vm scp', 'ERROR: NOT_FOUND', 1))
    run = pod('fetch', pod.job)
    assert run.returncode == 0, run.stderr
    workdir, log = run.stdout.splitlines()[-2:]
    assert workdir == str(pod.clone / 'runs' / 'tpu' / 'f0' / 'workdir')
    assert log.startswith('no log: `gcloud compute tpus tpu-vm scp f0:training/log runs/tpu/f0/log` failed')
    assert pod.calls() == [FETCH, FETCH_LOG]


@pytest.mark.usefixtures('scripts')
def test_a_call_that_never_ends_is_ended_with_what_it_started(tmp_path):
    import call

    script = f'(trap "" HUP; sleep 1.5; touch {tmp_path}/survived) & sleep 60'
    with pytest.raises(call.CallFailed, match='took more than'):
        call.run(['sh', '-c', script], tmp_path, seconds=0.3)
    time.sleep(1.6)
    assert not (tmp_path / 'survived').exists()
