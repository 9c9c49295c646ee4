"""Measures the input of a pod's hosts from a disk and from a bucket, for `scripts/benchmark.py input`.

Each host is a process that reads its part of every batch, as `nfnets-train` would; they share this machine's
cores with the server that plays the bucket.
"""

import contextlib
import functools
import itertools
import multiprocessing
import os
import socket
import statistics
import tempfile
from collections.abc import Iterator, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import jax
import ml_collections
from benchmarks import bucket, made_records

from nfnets import host
from nfnets.planning.core_rate import WARM_UP, time_batches


def measure(
    config: ml_collections.FrozenConfigDict, images: int, processes: int, latency_ms: int, rounds: int
) -> dict[str, dict[str, Any]]:
    """Reads from disk, bucket and late bucket in turn.

    Args:
      config: a complete one; its batch size is of all processes.
      images: that each turn makes at least.
      processes: that read at once.
      latency_ms: of each request to the late bucket.
      rounds: times that each is read.

    Returns:
      {form: {place: figures}}, of all processes, and the late bucket's throughput as a part of the others'.
    """
    with tempfile.TemporaryDirectory() as directory:
        made_records.write(Path(directory))
        places = {'disk': directory, 'bucket': bucket.bucket(0), 'late_bucket': bucket.bucket(latency_ms)}
        with (
            bucket.serve(Path(directory)) as address,
            _hosts(config, images, processes, address) as hosts,
        ):
            turns = list(itertools.product(made_records.FORMS, places))
            taken = []
            for number in range(rounds):
                begin = number % len(turns)  # None is always the first.
                order = turns[begin:] + turns[:begin]
                taken.append(
                    {(form, name): _turn(hosts, address, form, places[name]) for form, name in order}
                )
    medians = {turn: _medians([each[turn] for each in taken]) for turn in turns}
    batch = config.train.batch_size
    used = (WARM_UP + -(-images // batch)) * batch
    return {
        form: _figures({name: medians[form, name] for name in places}, used) for form in made_records.FORMS
    }


@contextlib.contextmanager
def _hosts(
    config: ml_collections.FrozenConfigDict, images: int, processes: int, address: str
) -> Iterator[Sequence[Connection]]:
    """Pipes to as many hosts: what form and place is sent, they time."""
    context = multiprocessing.get_context('spawn')
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        coordinator = f'127.0.0.1:{free.getsockname()[1]}'
    pipes, started = [], []
    for number in range(processes):
        ours, theirs = context.Pipe()
        distributed = (coordinator, processes, number)
        arguments = (theirs, config.to_dict(), images, distributed, bucket.environment(address))
        started.append(context.Process(target=_host, args=arguments, daemon=True))
        started[-1].start()
        theirs.close()  # A host that ends is noticed.
        pipes.append(ours)
    try:
        yield pipes
    finally:
        for process in started:
            process.kill()


def _host(
    pipe: Connection,
    config_dict: dict[str, Any],
    images: int,
    distributed: tuple[str, int, int],
    environment: dict[str, str],
) -> None:
    os.environ.update(environment)
    host.tune()
    jax.distributed.initialize(*distributed)
    config = ml_collections.FrozenConfigDict(config_dict)
    sources = functools.cache(made_records.open_source)
    try:
        while True:
            place, form = pipe.recv()
            source = sources(place, form)
            pipe.send('ready')
            pipe.recv()
            pipe.send(time_batches(config, source, images))
    except (EOFError, OSError):  # The benchmark was killed; JAX would wait for the other hosts.
        os._exit(1)


def _turn(hosts: Sequence[Connection], address: str, form: str, place: str) -> dict[str, float]:
    for pipe in hosts:
        pipe.send((place, form))
    for pipe in hosts:
        pipe.recv()
    bucket.counts(address)
    for pipe in hosts:
        pipe.send('go')
    times = [pipe.recv() for pipe in hosts]
    return {
        'seconds': max(seconds for seconds, _ in times),
        'cpu': sum(cpu for _, cpu in times),
        **bucket.counts(address),
    }


def _medians(turns: Sequence[dict[str, float]]) -> dict[str, float]:
    return {name: statistics.median(turn[name] for turn in turns) for name in turns[0]}


def _figures(turns: dict[str, dict[str, float]], used: int) -> dict[str, Any]:
    """What is printed of the places of a form, where each turn used so many images."""
    figures: dict[str, Any] = {
        name: {
            'images_per_second': round(1 / turn['seconds']),
            'cpu_ms_an_image': round(1e3 * turn['cpu'], 2),
        }
        for name, turn in turns.items()
    }
    for name in ('bucket', 'late_bucket'):
        turn = turns[name]
        figures[name] |= {
            'server_cpu_ms_an_image': round(1e3 * turn['cpu_seconds'] / turn['requests'], 2),
            'requests_in_flight': round(turn['in_flight'], 1),
            'requests_in_flight_at_most': int(turn['at_most']),
            'images_read_ahead': int(turn['requests']) - used,
        }
    late = turns['late_bucket']['seconds']
    ratios = {f'late_of_{name}': round(turns[name]['seconds'] / late, 3) for name in ('disk', 'bucket')}
    return {**figures, **ratios}
