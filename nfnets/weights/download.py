"""Downloads a file into a cache: resumed where it broke off, verified, and in its place only when whole.

The HTTP client is huggingface_hub's, for any server: its retries, progress bar, proxies and offline mode.
"""

import hashlib
import os
import re
import shutil
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from nfnets.errors import InputError, TrainingStopped
from nfnets.files import replace_file

MOST_BYTES = 8 << 30  # Twice F7+.
_KINDS = {'sha256': 'SHA-256', 'md5': 'MD5', 'git': "Git's digest"}


class Digest(NamedTuple):
    """A digest of a file, hexadecimal; kind 'sha256', 'md5', or 'git', which the hub has of small files."""

    kind: str
    value: str


class Remote(NamedTuple):
    """A file on a server.

    Attributes:
      url: of the file.
      size: bytes; None where the server does not say.
      digest: as the server states it; None where it does not.
      headers: to send with the request, such as credentials.
    """

    url: str
    size: int | None
    digest: Digest | None
    headers: Mapping[str, str]


def check_size(name: object, num_bytes: int) -> None:
    """Refuses a file that is larger than any NFNet's.

    Raises:
      InputError: names both sizes.
    """
    if num_bytes > MOST_BYTES:
        most = MOST_BYTES >> 30
        raise InputError(f'{name} has {num_bytes / 2**30:.1f} GiB; no NFNet needs more than {most}')


def require_network(name: str) -> None:
    """Refuses to download where the network is off.

    Raises:
      InputError: the network is off.
    """
    from huggingface_hub import constants

    if constants.is_offline_mode():
        raise InputError(
            f'{name} is not in the cache of {constants.HF_HOME}, and --offline or HF_HUB_OFFLINE is set: '
            'download it once without'
        )


def server_failure(message: str, error: BaseException) -> InputError | TrainingStopped:
    """The error to raise for one of huggingface_hub or a disk: a retry may help after some, not others."""
    from huggingface_hub.errors import HfHubHTTPError

    if isinstance(error, HfHubHTTPError):
        status = error.response.status_code
        may_pass = status >= 500 or status in (408, 429)
    else:
        # Errors of the disk have numbers.
        may_pass = not isinstance(error, ValueError) and getattr(error, 'errno', None) is None
    return (
        TrainingStopped(f'{message}; the same command may succeed later') if may_pass else InputError(message)
    )


def fetch(remote: Remote, target: Path, lock: Path, name: str) -> None:
    """Downloads a file to `target`, unless it is there.

    What a broken download left, of this process or another, is resumed. Of several processes that ask at once
    one downloads, and the others wait.

    Args:
      remote: the file.
      target: where it goes; `target.incomplete` beside it is what came so far.
      lock: a file that those who download this one hold.
      name: of the checkpoint, for messages and the progress bar.

    Raises:
      InputError: it is too large, there is no room for it, or it is not of the digest that the server states.
      OSError, httpx2.HTTPError: the disk or the server failed; what came is kept.
    """
    from huggingface_hub.utils import WeakFileLock

    check_size(name, remote.size or 0)
    for folder in (target.parent, lock.parent):
        folder.mkdir(parents=True, exist_ok=True)
    with WeakFileLock(lock):
        if target.exists():
            return
        draft = target.with_name(f'{target.name}.incomplete')
        _complete(remote, draft, name)
        found = remote.digest and digest_of(draft, remote.digest.kind)
        if found != remote.digest:
            draft.unlink()
            raise InputError(
                f'{name}: what came from {remote.url} is damaged and was dropped: its {_text(found)} is not '
                f'{_text(remote.digest)}, which the server states; try again'
            )
        draft.replace(target)


def _complete(remote: Remote, draft: Path, name: str) -> None:
    from huggingface_hub.file_download import http_get

    with draft.open('ab') as file:
        if remote.size is None or file.tell() > remote.size:
            file.seek(0)
            file.truncate()
        there = file.tell()
        _check_room(draft.parent, (remote.size or 0) - there, name)
        # Compressed on the way, a file could be neither measured nor resumed.
        headers = {**remote.headers, 'Accept-Encoding': 'identity'}
        http_get(
            remote.url,
            file,
            resume_size=there,
            headers=headers,
            expected_size=remote.size,
            displayed_filename=name,
        )
        file.flush()
        os.fsync(file.fileno())


def _check_room(folder: Path, num_bytes: int, name: str) -> None:
    free = shutil.disk_usage(folder).free
    if num_bytes > free:
        raise InputError(
            f'{name} needs {num_bytes / 1e6:,.0f} MB in {folder}, where {free / 1e6:,.0f} MB are free; '
            'HF_HOME=DIR puts the cache elsewhere'
        )


def digest_of(path: Path, kind: str) -> Digest:
    """The digest of a file."""
    makers: dict[str, Callable[[], Any]] = {
        'sha256': hashlib.sha256,
        'md5': lambda: hashlib.md5(usedforsecurity=False),
        'git': lambda: hashlib.sha1(b'blob %d\0' % path.stat().st_size, usedforsecurity=False),
    }
    with path.open('rb') as file:
        return Digest(kind, hashlib.file_digest(file, makers[kind]).hexdigest())


def verify(path: Path, known: Digest | None, name: str) -> None:
    """Compares a cached file with its digest, known or as it was at first use.

    Where none is known, the SHA-256 is written to `path.sha256`, as sha256sum does, and that is reported in a
    line on standard error.

    Raises:
      InputError: it differs.
    """
    record = path.with_name(f'{path.name}.sha256')
    expected = known or _recorded(record)
    found = digest_of(path, expected.kind if expected else 'sha256')
    if expected is None:
        replace_file(record, f'{found.value}  {path.name}\n')
        print(f'{name}: no digest is known; its {_text(found)} was recorded in {record}', file=sys.stderr)
    elif found != expected:
        source = 'as published' if known else f'as recorded at first use in {record}'
        raise InputError(
            f'{name}: {path} has changed: its {_text(found)} is not {_text(expected)}, {source}; remove the '
            'file, and it is downloaded again'
        )


def _recorded(record: Path) -> Digest | None:
    if not record.exists():
        return None
    found = re.match(r'[0-9a-f]{64}\b', record.read_text(encoding='utf-8', errors='replace'))
    if found is None:
        raise InputError(f'{record} holds no SHA-256: remove it, and it is recorded anew')
    return Digest('sha256', found[0])


def _text(digest: Digest | None) -> str:
    return f'{_KINDS[digest.kind]} {digest.value}' if digest else 'digest'
