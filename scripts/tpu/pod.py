"""Trains on a TPU slice of Google's cloud: asks for it, sets it up, starts training and keeps it going.

    python scripts/tpu/pod.py create JOB.toml
    python scripts/tpu/pod.py watch JOB.toml
    python scripts/tpu/pod.py fetch JOB.toml
    python scripts/tpu/pod.py delete JOB.toml

`watch` does by itself what `setup` and `start` do by hand. Every command takes --dry-run, which prints its
calls instead of making them. docs/pods.md describes every step from an empty project on; f0_v4_32.toml beside
this file is a job, and job.py explains its keys. Needs gcloud, git, and Python 3.11 or later, no packages.
"""

import argparse
import sys
from collections.abc import Iterable
from pathlib import Path

from call import CallFailed
from cloud import Cloud
from job import InvalidJob, LaunchError, read_job
from watch import watch

_COMMANDS = {
    'create': 'ask for the TPU; what is committed now is the code that it will train',
    'setup': 'send what is committed now to all workers, and install what it needs',
    'start': 'start training in the background of all workers',
    'status': 'say how the queued resource is, and training on each worker',
    'stop': 'let training save its state and end, on all workers',
    'watch': 'set up, start and, after preemption, create again, until training has finished',
    'fetch': 'copy the workdir and the log to runs/tpu/NAME',
    'delete': 'give the TPU back; what is in the bucket stays',
}


def main() -> None:
    args = _parse()
    try:
        cloud = Cloud(read_job(args.job), args.dry_run)
        if args.command == 'watch':
            (_print_watch if args.dry_run else watch)(cloud, args.every, args.delete)
            return
        for line in _do(args.command, cloud):
            if not args.dry_run:
                print(line)
    except LaunchError as error:
        print(f'error: {error}', file=sys.stderr)
        sys.exit(2 if isinstance(error, InvalidJob) else 1)
    except KeyboardInterrupt:
        sys.exit('\nleft; training, if it is running, continues')


def _parse() -> argparse.Namespace:
    about, _, rest = (__doc__ or '').partition('\n\n')
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=about, epilog=rest, formatter_class=form)
    commands = parser.add_subparsers(dest='command', required=True, metavar='COMMAND')
    for name, does in _COMMANDS.items():
        command = commands.add_parser(name, help=does, description=does)
        command.add_argument('job', type=Path, metavar='JOB.toml')
        command.add_argument('--dry-run', action='store_true', help='print the calls instead of making them')
        if name == 'watch':
            command.add_argument('--every', type=float, default=60, help='seconds between looks [60]')
            command.add_argument(
                '--delete', action='store_true', help='delete the TPU at the end, finished or given up'
            )
    return parser.parse_args()


def _do(command: str, cloud: Cloud) -> Iterable[object]:
    """Does one command; returns what there is to say of it."""
    job = cloud.job
    if command == 'create':
        cloud.pack()
        cloud.create()
        return [f'asked for {job.name}, a TPU {job.accelerator} in {job.zone} of {job.project}']
    if command == 'setup':
        cloud.pack()
        cloud.set_up()
        return [f'{job.name} is set up']
    if command == 'start':
        return cloud.start()
    if command == 'stop':
        return cloud.stop()
    if command == 'status':
        state = cloud.state()
        workers = cloud.workers() if state == 'ACTIVE' or cloud.is_dry else []
        return [f'queued resource {job.name}: {state or "there is none"}', *workers]
    if command == 'fetch':
        return [cloud.fetch_workdir(), _fetch_log(cloud)]
    if not cloud.is_dry:
        about = f'queued resource {job.name} of {job.project} in {job.zone}'
        print(f'Deletes {about}, its TPU and its disks.', flush=True)
    cloud.delete(asks=True)
    return [f'Deleted; {job.workdir} stays as it is.']


def _print_watch(cloud: Cloud, every: float, deletes: bool) -> None:
    """Prints the calls of each case."""
    print(f'# every {every:g} s')
    cloud.state()
    cloud.workers()
    print('# if the workers do not answer')
    cloud.node_state()
    print('# on a new TPU')
    cloud.set_up()
    cloud.start()
    print('# if training ended, but has not finished')
    cloud.start()
    print('# if it ended on some workers and still runs on others')
    cloud.stop()
    print('# if the TPU was taken away')
    cloud.delete(asks=False)
    cloud.create()
    if deletes:
        print('# at the end')
        cloud.fetch_log()
        cloud.delete(asks=False)


def _fetch_log(cloud: Cloud) -> object:
    try:
        return cloud.fetch_log()
    except CallFailed as error:  # The TPU may be gone.
        return f'no log: {error}'


if __name__ == '__main__':
    main()
