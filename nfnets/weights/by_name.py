"""Checkpoints by name: downloaded once, and from then on taken from the cache.

released:F0 .. F6                the files released with the paper (arXiv 2102.06171), from their bucket
timm:dm_nfnet_f0, timm:nfnet_l0  timm's weights, from the Hugging Face hub
hf:OWNER/NAME[@REVISION][/FILE]  any repository of the hub
"""

import base64
import difflib
import os
from pathlib import Path

from nfnets.errors import InputError, TrainingStopped
from nfnets.files import why
from nfnets.weights import hub
from nfnets.weights.download import Digest, Remote, fetch, require_network, server_failure, verify
from nfnets.weights.hub import Place

BUCKET = 'https://storage.googleapis.com/dm-nfnets'
_RELEASED = {f'released:F{i}': f'F{i}_haiku.npz' for i in range(7)}
# timm 1.0.31: every normalizer-free network that it has weights of.
_TAGS = {
    **{f'dm_nfnet_f{i}': 'dm_in1k' for i in range(7)},
    'nfnet_l0': 'ra2_in1k',
    'eca_nfnet_l0': 'ra2_in1k',
    'eca_nfnet_l1': 'ra2_in1k',
    'eca_nfnet_l2': 'ra3_in1k',
    'nf_regnet_b1': 'ra2_in1k',
    'nf_resnet50': 'ra2_in1k',
}
_TIMM = {f'timm:{name}': f'timm/{name}.{tag}' for name, tag in _TAGS.items()}
_KNOWN = (*_RELEASED, *_TIMM)


def is_name(given: str | os.PathLike[str]) -> bool:
    """Whether this is the name of a checkpoint; everything else is a path."""
    return os.fspath(given).startswith(('released:', 'timm:', 'hf:'))


def check_name(name: str) -> None:
    """Refuses a name that nothing can have; whether the hub has it is not asked.

    Raises:
      InputError: with the nearest that there is.
    """
    if name not in _RELEASED:
        _place(name)


def hint(path: str) -> str:
    """'; did you mean NAME?' for a path where nothing is and that resembles a name, or '' for messages."""
    by_end = {name.partition(':')[2].lower(): name for name in _KNOWN}
    near = difflib.get_close_matches(path.rpartition(':')[2].lower(), by_end, n=1, cutoff=0.9)
    return f'; did you mean {by_end[near[0]]}?' if near else ''


def repository(name: str) -> str | None:
    """'OWNER/NAME' of a checkpoint in the hub; None of one in the bucket."""
    return None if name in _RELEASED else _place(name).repo


def locate(name: str) -> Path:
    """The file of a checkpoint in the cache, downloaded if it is not there, and verified.

    A file that is there needs no network. For others HF_HOME, HF_HUB_CACHE, HF_HUB_OFFLINE, HF_TOKEN,
    HF_ENDPOINT and proxies are huggingface_hub's.

    Raises:
      InputError: there is no such checkpoint, or it may not be read, is damaged, has no room, or is not in
        the cache and the network is off.
      TrainingStopped: the server does not answer, which may be over soon.
    """
    check_name(name)
    from huggingface_hub.errors import HTTPError

    try:
        return _from_bucket(name) if name in _RELEASED else hub.locate(_place(name))
    except InputError:
        raise
    except (HTTPError, OSError, ValueError) as error:
        raise _failure(name, error) from error


def _place(name: str) -> Place:
    """Where a checkpoint is in the hub, of timm by its name there with or without its tag."""
    if name.startswith('hf:'):
        return hub.parse(name)
    for known, repo in _TIMM.items():
        if name in (known, repo.replace('/', ':', 1)):
            return Place(name, repo, file=hub.SAFETENSORS)
    there = [n for n in _KNOWN if n.partition(':')[0] == name.partition(':')[0]]
    near = difflib.get_close_matches(name, there, n=1) or there
    raise InputError(f'there is no {name}; did you mean {near[0]}? There are {", ".join(there)}')


def _from_bucket(name: str) -> Path:
    from huggingface_hub import cached_assets_path

    path = cached_assets_path('nfnets', 'released') / _RELEASED[name]
    if not path.exists():
        require_network(name)
        fetch(_remote(f'{BUCKET}/{path.name}'), path, path.with_name(f'{path.name}.lock'), name)
    verify(path, None, name)
    return path


def _remote(url: str) -> Remote:
    """A file in the bucket, with its size and digest as Google Cloud Storage states them."""
    from huggingface_hub import constants, get_session
    from huggingface_hub.utils import hf_raise_for_status

    answer = get_session().head(url, timeout=constants.HF_HUB_ETAG_TIMEOUT)
    hf_raise_for_status(answer)
    length = answer.headers.get('Content-Length')
    # Such as 'crc32c=n03x6A==,md5=Ojk9c3dhfxgoKVVHYwFbHQ=='.
    hashes = (part.strip().partition('=') for part in answer.headers.get('x-goog-hash', '').split(','))
    md5 = {kind: value for kind, _, value in hashes}.get('md5')
    digest = Digest('md5', base64.b64decode(md5).hex()) if md5 else None
    return Remote(url, int(length) if length else None, digest, {})


def _failure(name: str, error: Exception) -> InputError | TrainingStopped:
    """The error to raise for one of the network or the disk."""
    from huggingface_hub import errors

    if isinstance(error, errors.GatedRepoError):
        return InputError(f'{name} is gated: agree to its conditions on the hub, and give HF_TOKEN')
    missing = (errors.RepositoryNotFoundError, errors.RevisionNotFoundError, errors.RemoteEntryNotFoundError)
    if name not in _RELEASED and isinstance(error, missing):
        is_hidden = isinstance(error, errors.RepositoryNotFoundError)
        private = ', or it is private and HF_TOKEN does not open it' if is_hidden else ''
        return InputError(f'there is no {name}{private}{hub.nearest(_place(name), error, _TIMM.values())}')
    return server_failure(f'{name} cannot be downloaded: {why(error)}', error)
