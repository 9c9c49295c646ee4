"""Checkpoints in repositories of the Hugging Face hub, in the cache that all of its users share."""

import contextlib
import difflib
import re
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from nfnets.errors import InputError
from nfnets.weights.download import Digest, Remote, fetch, require_network, verify

SAFETENSORS, NPZ = 'model.safetensors', 'model.npz'  # As this project publishes.
FORM = 'hf:OWNER/NAME[@REVISION][/FILE]'
_NAME = re.compile(r'hf:(?P<repo>[\w.-]+/[\w.-]+)(?:@(?P<revision>[^/@]+))?(?:/(?P<file>[^@]+))?')
# Which file of a repository is the checkpoint: by the first of these that exactly one has.
_PATTERNS = (re.escape(SAFETENSORS), r'.*\.safetensors', r'.*\.npz', r'(.*/)?pytorch_model\.bin')
_KINDS = {64: 'sha256', 40: 'git'}  # Of the hub's digests, by their length.
_MOST_LISTED = 1000  # Repositories of an owner, to find the nearest among.


class Place(NamedTuple):
    """A file of a repository.

    Attributes:
      name: of the checkpoint, for messages.
      repo: 'OWNER/NAME'.
      revision: branch, tag or commit.
      file: None: the one that is a checkpoint.
    """

    name: str
    repo: str
    revision: str = 'main'
    file: str | None = None


def parse(name: str) -> Place:
    """The place that 'hf:OWNER/NAME[@REVISION][/FILE]' stands for.

    Raises:
      InputError: it is of another form.
    """
    match = _NAME.fullmatch(name)
    if match is None:
        raise InputError(f'{name} is no name of a checkpoint: it must be {FORM}')
    return Place(name, match['repo'], match['revision'] or 'main', match['file'])


def locate(place: Place) -> Path:
    """The file in the cache, downloaded if it is not there, and verified.

    Raises:
      InputError: the repository holds no checkpoint, or several, or the file is damaged, or is not in the
        cache and the network is off.
      OSError, httpx2.HTTPError: the hub or the disk failed.
    """
    from huggingface_hub import hf_hub_download, try_to_load_from_cache

    file = place.file or _file_of(place)
    cached = try_to_load_from_cache(place.repo, file, revision=place.revision)
    if not isinstance(cached, str):
        require_network(place.name)
        _fetch_blob(place, file)
        cached = hf_hub_download(place.repo, file, revision=place.revision)
    blob = Path(cached).resolve()
    verify(blob, _digest(blob.name), place.name)
    return blob


def _file_of(place: Place) -> str:
    """The file that is the checkpoint: of those in the cache, or else of all."""
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        folder = Path(snapshot_download(place.repo, revision=place.revision, local_files_only=True))
        return _choose(place, [path.relative_to(folder).as_posix() for path in folder.rglob('*.*')])
    except (LocalEntryNotFoundError, InputError):
        require_network(place.name)
        return _choose(place, HfApi().list_repo_files(place.repo, revision=place.revision))


def _choose(place: Place, files: Iterable[str]) -> str:
    files = sorted(files)
    for pattern in _PATTERNS:
        found = [file for file in files if re.fullmatch(pattern, file)]
        if len(found) == 1:
            return found[0]
        if found:
            raise InputError(f'{place.name} holds several checkpoints: add one of /{", /".join(found)}')
    there = f'there are {", ".join(files[:10])}' if files else 'it is empty'
    raise InputError(f'{place.name} holds no {SAFETENSORS}, nor another .safetensors or .npz: {there}')


def _fetch_blob(place: Place, file: str) -> None:
    """Downloads a file to where `hf_hub_download` then finds it.

    That function begins anew what another process began, and compares sizes alone.
    """
    from huggingface_hub import constants, get_hf_file_metadata, hf_hub_url
    from huggingface_hub.file_download import repo_folder_name
    from huggingface_hub.utils import build_hf_headers

    there = get_hf_file_metadata(hf_hub_url(place.repo, file, revision=place.revision))
    digest = _digest(there.etag or '')
    if digest is None:  # It is another server than the hub.
        return
    url = hf_hub_url(place.repo, file, revision=there.commit_hash)
    folder = repo_folder_name(repo_id=place.repo, repo_type='model')
    cache = Path(constants.HF_HUB_CACHE)
    fetch(
        Remote(url, there.size, digest, build_hf_headers()),
        cache / folder / 'blobs' / digest.value,
        cache / '.locks' / folder / f'{digest.value}.lock',  # That function's.
        place.name,
    )


def _digest(etag: str) -> Digest | None:
    """The hub's tag of a file, which names its blob in the cache: SHA-256, or Git's of a small file."""
    kind = _KINDS.get(len(etag)) if re.fullmatch('[0-9a-f]+', etag) else None
    return Digest(kind, etag) if kind else None


def nearest(place: Place, error: Exception, known: Iterable[str]) -> str:
    """'; did you mean NAME?' where the hub has no such repository, revision or file; '' if nothing is near.

    Args:
      place: that is not there.
      error: of huggingface_hub.
      known: repositories to compare with, beside those of the same owner.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HTTPError, RepositoryNotFoundError, RevisionNotFoundError

    api, (_, repo, revision, file) = HfApi(), place
    with contextlib.suppress(HTTPError, OSError):  # The hub is asked for a hint alone.
        if isinstance(error, RepositoryNotFoundError):
            models = api.list_models(author=repo.partition('/')[0], limit=_MOST_LISTED)
            return _hint(repo, [*known, *(model.id for model in models)], 'hf:')
        if isinstance(error, RevisionNotFoundError):
            refs = api.list_repo_refs(repo)
            return _hint(revision, [ref.name for ref in (*refs.branches, *refs.tags)], f'hf:{repo}@')
        return _hint(file or '', api.list_repo_files(repo, revision=revision), f'hf:{repo}/')
    return ''


def _hint(wanted: str, there: Iterable[str], before: str) -> str:
    near = difflib.get_close_matches(wanted, there, n=1)
    return f'; did you mean {before}{near[0]}?' if near else ''
