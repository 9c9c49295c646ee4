"""What `watch` does about everything that it may see, with a gcloud that answers from a list."""

from types import SimpleNamespace

import pytest
from tpu_calls import CREATE, DELETE_UNASKED, FETCH_LOG, NODE, SEND, SETUP, START, STATE, STATUS, STOP


def _state(state):
    return STATE, state


def _workers(*states, last_line=''):
    """A look that finds the queued resource active, and its workers as given."""
    lines = [f'nfnets-worker host-{index} {state} | {last_line}' for index, state in enumerate(states)]
    return [_state('ACTIVE'), (STATUS, '\n'.join(lines))]


NOT_FOUND = (STATE, 'ERROR: (gcloud.compute) NOT_FOUND: it was not found', 1)
NEW = [*_workers('new', 'new'), (SEND, ''), (SETUP, ''), (START, '')]
RUNNING = _workers('running', 'running', last_line='5% [loss 6.5, 9000 images/s]')
DIED = [*_workers('ended 1', 'ended -9', last_line='error: lost a peer'), (START, '')]
ASKED_TO_END = [*_workers('ended 75', 'ended 75'), (START, '')]
FINISHED = _workers('ended 0', 'ended 0')
REPLACED = [(DELETE_UNASKED, ''), (CREATE, '')]
PREEMPTED = [_state('SUSPENDED'), *REPLACED]
REFUSED = [_state('FAILED'), *REPLACED]


def _watch(pod, *looks, flags=()):
    """Watches, and checks that the calls were those of the looks, no more and no less."""
    answers = [answer for look in looks for answer in look]
    pod.answer(*answers)
    (pod.clone / 'runs' / 'tpu' / 'f0').mkdir(parents=True)
    (pod.clone / 'runs' / 'tpu' / 'f0' / 'code.tar.gz').touch()
    run = pod('watch', pod.job, '--every=0', *flags)
    assert pod.calls() == [answer[0] for answer in answers], run.stdout + run.stderr
    return run


def test_preempted_twice_it_resumes_until_training_has_finished(pod):
    run = _watch(
        pod,
        [_state('WAITING_FOR_RESOURCES')],
        NEW,
        RUNNING,
        PREEMPTED,
        [_state('PROVISIONING')],
        NEW,
        RUNNING,
        # Some time passes until a queued resource knows that its TPU is gone.
        [_state('ACTIVE'), (STATUS, 'ERROR: cannot connect', 255), (NODE, 'PREEMPTED'), *REPLACED],
        [_state('SUSPENDING')],
        NEW,
        FINISHED,
    )
    assert (run.returncode, run.stderr) == (0, '')
    assert 'f0: running on 2 workers: 5% [loss 6.5, 9000 images/s]\n' in run.stdout
    deleting = 'f0: deleting queued resource f0 of my-project in us-central2-b, and its TPU\n'
    assert run.stdout.count(deleting) == 2
    assert run.stdout.endswith('the TPU is still there and costs money: `pod.py delete` gives it back\n')


def test_after_sigterm_it_starts_again_however_often(pod):
    assert _watch(pod, *[ASKED_TO_END] * 5, FINISHED).returncode == 0


@pytest.mark.parametrize(
    'ends', [('ended 1', 'ended 1'), ('lost', 'lost'), ('ended -9', 'ended 75'), ('ended 0', 'ended -6')]
)
def test_died_it_starts_again(pod, ends):
    run = _watch(pod, RUNNING, [*_workers(*ends, last_line='error: why'), (START, '')], RUNNING, FINISHED)
    assert run.returncode == 0
    assert f'training ended: 1 {ends[0]}' in run.stdout or f'training ended: 2 {ends[0]}' in run.stdout
    assert 'host-0 ' + ends[0] + ': error: why' in run.stdout


def test_set_up_by_hand_it_only_starts(pod):
    assert _watch(pod, [*_workers('ready', 'ready'), (START, '')], RUNNING, FINISHED).returncode == 0


def test_dying_again_and_again_it_is_given_up(pod):
    run = _watch(pod, *[DIED] * 3, DIED[:-1])
    assert run.returncode == 1
    (line,) = run.stderr.splitlines()
    assert line.startswith(
        'error: given up after 3 attempts to resume: training ended: 1 ended 1, 1 ended -9'
    )
    assert 'host-1 ended -9: error: lost a peer' in line
    assert 'costs money' in run.stdout


def test_preemption_is_no_failure(pod):
    assert _watch(pod, *[DIED] * 3, PREEMPTED, *[DIED] * 3, FINISHED).returncode == 0


def test_a_request_that_fails_is_made_again_but_not_for_ever(pod):
    assert _watch(pod, *[REFUSED] * 3, NEW, FINISHED).returncode == 0


def test_a_request_that_always_fails_is_given_up(pod):
    run = _watch(pod, *[REFUSED] * 3, [_state('FAILED')])
    assert run.returncode == 1
    assert run.stderr == 'error: given up after 3 attempts to resume: the request for the TPU failed\n'


def test_an_invalid_setting_ends_it_at_once(pod):
    run = _watch(pod, NEW, _workers('ended 2', 'ended 2', last_line='error: data.dir: there is nothing'))
    assert run.returncode == 1
    assert run.stderr == (
        'error: training would end the same way again: 2 ended 2; host-0 ended 2: error: data.dir: there is '
        'nothing; host-1 ended 2: error: data.dir: there is nothing\n'
    )


def test_training_that_hangs_on_some_workers_is_stopped_and_started(pod):
    some = _workers('running', 'ended -9')
    _watch(pod, some, some, RUNNING, some, some, [*some, (STOP, '')], DIED, FINISHED)


def test_workers_that_cannot_be_reached_are_left_alone_while_their_tpu_is_there(pod):
    unreachable = [_state('ACTIVE'), (STATUS, 'ERROR: cannot connect', 255), (NODE, 'REPAIRING')]
    run = _watch(pod, *[unreachable] * 4, FINISHED)
    assert 'f0: TPU REPAIRING, but `gcloud compute tpus tpu-vm ssh f0` failed with status 255' in run.stdout


def test_silent_workers_are_none_that_finished(pod):
    run = _watch(pod, [_state('ACTIVE'), (STATUS, 'no worker speaks'), (NODE, 'READY')], FINISHED)
    assert run.returncode == 0
    assert 'did not say how training stands' in run.stdout


def test_calls_that_fail_are_made_again(pod):
    run = _watch(
        pod,
        [(STATE, 'ERROR: no network', 1)],
        [_state('SUSPENDED'), (DELETE_UNASKED, 'ERROR: busy', 1)],
        [_state('SUSPENDED'), (DELETE_UNASKED, ''), (CREATE, 'ERROR: Quota exhausted', 1)],
        [NOT_FOUND, (CREATE, '')],
        [*_workers('new', 'new'), (SEND, 'ERROR: not yet', 1)],
        NEW,
        FINISHED,
    )
    assert run.returncode == 0
    assert 'ERROR: Quota exhausted; trying again in 0 s\n' in run.stdout
    assert 'f0: setting up failed: `gcloud compute tpus tpu-vm scp' in run.stdout


def test_what_was_not_created_is_not_watched(pod):
    run = _watch(pod, [NOT_FOUND])
    assert run.returncode == 2
    assert run.stderr == 'error: there is no queued resource f0: create it first\n'


@pytest.mark.parametrize('is_good', [True, False])
def test_at_the_end_the_tpu_is_deleted_if_that_was_asked_for(pod, is_good):
    end = FINISHED if is_good else _workers('ended 2', 'ended 2')
    retry = [(STATE, 'ERROR: no network', 1)]
    delete = [(FETCH_LOG, 'ERROR: no log', 1), *retry, _state('ACTIVE'), (DELETE_UNASKED, '')]
    run = _watch(pod, RUNNING, end, delete, flags=['--delete'])
    assert run.returncode == (0 if is_good else 1)
    assert 'costs money' not in run.stdout


@pytest.mark.usefixtures('scripts')
def test_failures_an_hour_from_each_other_are_not_counted_together():
    import watch

    now = [0.0]
    dead = SimpleNamespace(state='lost', last_line='', host='h')
    cloud = SimpleNamespace(
        job=SimpleNamespace(name='f0'), state=lambda: 'ACTIVE', workers=lambda: [dead], start=lambda: None
    )
    watcher = watch.Watcher(cloud, clock=lambda: now[0])
    for _ in range(5):
        now[0] += 3600
        assert not watcher.look()
    for _ in range(2):
        now[0] += 3599
        assert not watcher.look()
    now[0] += 3599
    with pytest.raises(watch.LaunchError, match='given up after 3'):
        watcher.look()
