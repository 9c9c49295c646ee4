"""A bucket of Google Cloud Storage on this machine, to read from, where each request takes time.

It runs in a process of its own and answers what `nfnets.data.ranges` asks: a part of an object. Counts of the
requests, and of those in flight, are read at /counts.
"""

import asyncio
import contextlib
import json
import multiprocessing
import os
import re
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path

_OBJECT = re.compile(r'GET /storage/v1/b/(?P<bucket>late-(?P<ms>\d+)ms)/o/(?P<name>[^?]+)\?alt=media')
_RANGE = re.compile(r'\r\nrange: bytes=(\d*)-(\d*)', re.IGNORECASE)


def bucket(milliseconds: int) -> str:
    """The bucket whose requests are so late; all hold the same objects."""
    return f'gs://late-{milliseconds}ms'


@contextlib.contextmanager
def serve(directory: Path) -> Iterator[str]:
    """Serves the files of a directory as the objects of buckets; yields the server's address."""
    context = multiprocessing.get_context('spawn')
    ours, theirs = context.Pipe()
    process = context.Process(target=_run, args=(directory, theirs), daemon=True)
    process.start()
    theirs.close()
    try:
        yield f'http://127.0.0.1:{ours.recv()}'
    finally:
        process.kill()
        process.join()


def environment(address: str) -> dict[str, str]:
    """The variables that lead tensorstore to a server."""
    return {'TENSORSTORE_GCS_HTTP_URL': address, 'GOOGLE_AUTH_TOKEN_FOR_TESTING': 'token'}


def counts(address: str) -> dict[str, float]:
    """Since the last call: 'requests', how many were 'in_flight' in the mean and 'at_most', 'cpu_seconds'."""
    with urllib.request.urlopen(f'{address}/counts') as answer:
        return json.load(answer)


class _Counts:
    """Of the requests that wait for their answers."""

    def __init__(self) -> None:
        self._now = 0
        self._reset()

    def _reset(self) -> None:
        self._requests, self._most, self._waited = 0, self._now, 0.0
        self._since = self._changed = time.perf_counter()
        self._cpu = time.process_time()

    def change(self, by: int) -> None:
        now = time.perf_counter()
        self._waited += self._now * (now - self._changed)
        self._changed = now
        self._now += by
        self._requests += by > 0
        self._most = max(self._most, self._now)

    def take(self) -> dict[str, float]:
        self.change(0)
        seconds = self._changed - self._since
        taken = {
            'requests': self._requests,
            'in_flight': self._waited / seconds,
            'at_most': self._most,
            'cpu_seconds': time.process_time() - self._cpu,
        }
        self._reset()
        return taken


class _Connection(asyncio.Protocol):
    """Answers one request after another."""

    def __init__(self, directory: Path, counts: _Counts):
        self._directory = directory
        self._counts = counts
        self._received = b''

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._received += data
        while b'\r\n\r\n' in self._received:
            head, _, self._received = self._received.partition(b'\r\n\r\n')
            self._start(head.decode())

    def _start(self, head: str) -> None:
        if head.startswith('GET /counts '):
            self._send('200 OK', json.dumps(self._counts.take()).encode())
            return
        found = _OBJECT.match(head)
        if not found:
            self._send('403 Forbidden', b'{}')
            return
        self._counts.change(1)
        asyncio.get_running_loop().call_later(int(found['ms']) / 1e3, self._answer, found['name'], head)

    def _answer(self, name: str, head: str) -> None:
        self._counts.change(-1)
        if self._transport.is_closing():
            return
        try:
            file = os.open(self._directory / urllib.parse.unquote(name), os.O_RDONLY)
        except FileNotFoundError:
            self._send('404 Not Found', b'{}')
            return
        try:
            size = os.fstat(file).st_size
            begin, end = _part(_RANGE.search(head), size)
            content = os.pread(file, end - begin, begin)
        finally:
            os.close(file)
        whole = f'content-range: bytes {begin}-{end - 1}/{size}\r\nx-goog-generation: 1\r\n'
        self._send('206 Partial Content', content, whole)

    def _send(self, status: str, content: bytes, headers: str = '') -> None:
        head = f'HTTP/1.1 {status}\r\n{headers}content-length: {len(content)}\r\n\r\n'
        self._transport.writelines([head.encode(), content])


def _part(asked: re.Match[str] | None, size: int) -> tuple[int, int]:
    if asked is None:
        return 0, size
    if not asked[1]:
        return size - int(asked[2]), size
    return int(asked[1]), int(asked[2]) + 1 if asked[2] else size


def _run(directory: Path, pipe: Connection) -> None:
    async def forever() -> None:
        all_counts = _Counts()
        loop = asyncio.get_running_loop()
        server = await loop.create_server(lambda: _Connection(directory, all_counts), '127.0.0.1', 0)
        pipe.send(server.sockets[0].getsockname()[1])
        loop.add_reader(pipe.fileno(), os._exit, 1)  # What it was started by has ended.
        await server.serve_forever()

    asyncio.run(forever())
