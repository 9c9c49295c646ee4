"""Checksums of a checkpoint's arrays, kept in it: what is not as it was written must not be trained on."""

import dataclasses
import json
import zlib
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from etils import epath

_FILE = 'checksums.json'


def checksums(tree: Any) -> dict[str, int]:
    """CRC-32 of every array by its path, such as 'params/NFNet/~/linear/w', with its type and shape."""
    return {
        jax.tree_util.keystr(path, simple=True, separator='/'): _checksum(np.asarray(leaf))
        for path, leaf in jax.tree.leaves_with_path(tree)
    }


def _checksum(array: np.ndarray) -> int:
    what = f'{array.dtype} {array.shape}'.encode()
    return zlib.crc32(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data, zlib.crc32(what))


def differing(tree: Any, expected: Mapping[str, int]) -> list[str]:
    """Paths at which a tree is not what its checksums say."""
    actual = checksums(tree)
    return sorted(name for name in actual.keys() | expected.keys() if actual.get(name) != expected.get(name))


class ChecksumHandler(ocp.AsyncCheckpointHandler):
    """Writes the checksums of a tree as a part of a checkpoint, computed off the training thread."""

    async def async_save(self, directory: epath.Path, args: 'ChecksumSave') -> list[ocp.future.Future]:
        return [
            ocp.future.CommitFutureAwaitingContractedSignals(_write(directory, args.tree), name='checksums')
        ]

    def save(self, directory: epath.Path, args: 'ChecksumSave') -> None:
        raise NotImplementedError('checkpoints are written asynchronously')

    def restore(self, directory: epath.Path, args: 'ChecksumRestore') -> dict[str, int]:
        del args
        return json.loads((directory / _FILE).read_text())


async def _write(directory: epath.Path, tree: Any) -> None:
    if jax.process_index() == 0:
        (directory / _FILE).write_text(json.dumps(checksums(tree), indent=0))


@ocp.args.register_with_handler(ChecksumHandler, for_save=True)
@dataclasses.dataclass
class ChecksumSave(ocp.args.CheckpointArgs):
    """The tree, of NumPy arrays that nobody changes, whose checksums are written."""

    tree: Any


@ocp.args.register_with_handler(ChecksumHandler, for_restore=True)
@dataclasses.dataclass
class ChecksumRestore(ocp.args.CheckpointArgs):
    """Asks for {path: CRC-32}."""
