"""This project's own file of parameters: arrays that any NumPy reads, and nothing that can run.

A ZIP archive as `np.savez` writes it, whose arrays are called 'module/name', with a member `metadata.json`:
`np.load(path)['NFNet/~/linear/b']` is an array.
"""

import io
import math
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from nfnets.weights import about as about_lib
from nfnets.weights.about import About
from nfnets.weights.pickles import Refused
from nfnets.weights.released import Params

_METADATA = 'metadata.json'


def is_npz(archive: zipfile.ZipFile) -> bool:
    """Whether an archive holds arrays."""
    names = archive.namelist()
    return bool(names) and all(name.endswith('.npy') or name == _METADATA for name in names)


def read_npz(archive: zipfile.ZipFile) -> tuple[Params, About]:
    """Reads parameters and their metadata; the archive's members must be stored as they are.

    Raises:
      Refused: an array holds objects, something is damaged, or the metadata is that of something else.
    """
    params: Params = {}
    for member in archive.namelist():
        if member != _METADATA:
            module, _, name = member.removesuffix('.npy').rpartition('/')
            params.setdefault(module, {})[name] = _read_array(archive.read(member), member)
    has_metadata = _METADATA in archive.namelist()
    return params, about_lib.from_json(archive.read(_METADATA)) if has_metadata else About()


def _read_array(content: bytes, member: str) -> np.ndarray:
    # Not np.load: it makes room for whatever shape the header claims.
    stream = io.BytesIO(content)
    try:
        version = np.lib.format.read_magic(stream)
        read_header = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }[version]
        shape, is_fortran, dtype = read_header(stream)
    except Exception as error:  # NumPy reads a header by Python's own parser, which fails in many ways.
        raise Refused(f'{member} is no array: {error}') from error
    if dtype.kind not in 'biuf':
        raise Refused(f'{member} is an array of type {dtype}')
    if math.prod(shape) * dtype.itemsize != len(content) - stream.tell():
        raise Refused(f'{member} does not hold the {shape} values that it claims')
    values = np.frombuffer(content, dtype, offset=stream.tell())
    return values.reshape(shape, order='F' if is_fortran else 'C')


def write_npz(path: Path, params: Mapping[str, Mapping[str, np.ndarray]], metadata: str) -> None:
    """Writes parameters and their metadata, a JSON text."""
    arrays = {f'{module}/{name}': x for module, names in params.items() for name, x in names.items()}
    with path.open('wb') as file:
        np.savez(file, allow_pickle=False, **arrays)
    with zipfile.ZipFile(path, 'a') as archive:
        archive.writestr(zipfile.ZipInfo(_METADATA), metadata)
