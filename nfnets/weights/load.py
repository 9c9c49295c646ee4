"""Loads the parameters of an NFNet from a file of any form, found by its content."""

import contextlib
import dataclasses
import hashlib
import mmap
import struct
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

from etils import epath

from nfnets.data.preprocessing import Preprocessing
from nfnets.errors import InputError
from nfnets.files import as_path, failure, file_errors, local_copy, size, why
from nfnets.weights import by_name, npz, torch_files
from nfnets.weights.about import About, from_json
from nfnets.weights.download import check_size
from nfnets.weights.fit import network_kind
from nfnets.weights.pickles import Refused
from nfnets.weights.released import Params, read_released
from nfnets.weights.timm import from_timm

METADATA_KEY = 'nfnets'  # Of a safetensors file's metadata.
_KINDS = (
    'the files released with the paper, .npz of this project, .safetensors and .pth of timm, '
    'and the working directory of a run'
)


@dataclasses.dataclass(frozen=True)
class Weights:
    """The contents of a checkpoint.

    Attributes:
      path: of the file or directory, or the name that it was loaded by.
      kind: 'released', 'npz', 'timm' or 'workdir'.
      params: {module: {name: array}}, by the names of the released weights.
      ema_params: their EMA; of a working directory only.
      about: their metadata.
      sha256: of the file, hexadecimal; None for a directory.
      network_state: statistics of batch normalization, alike; of a working directory only.
      ema_network_state: their EMA.
    """

    path: epath.Path
    kind: str
    params: Params
    about: About
    ema_params: Params | None = None
    sha256: str | None = None
    network_state: Params = dataclasses.field(default_factory=dict)
    ema_network_state: Params = dataclasses.field(default_factory=dict)

    def variables(self, ema: bool) -> tuple[Params, Params]:
        """The parameters, or their EMA, with the network state that goes with them.

        Raises:
          InputError: there is no EMA.
        """
        return self.choose(ema)[0], self.ema_network_state if ema else self.network_state

    def choose(self, ema: bool) -> tuple[Params, About]:
        """The parameters or their EMA, and their metadata.

        Raises:
          InputError: there is no EMA.
        """
        if ema and self.ema_params is None:
            raise InputError(f'{self.path} holds one set of parameters and no EMA beside it: give no --ema')
        if self.ema_params is None:
            return self.params, self.about
        which = 'ema' if ema else 'raw'
        return self.ema_params if ema else self.params, dataclasses.replace(self.about, parameters=which)

    def check_network(self, name: str, activation: str) -> None:
        """Refuses to be used in a network of another kind or activation, where the checkpoint knows its own.

        Args:
          name: of the network, as in `model.name`.
          activation: its own.

        Raises:
          InputError: names both.
        """
        held = self.about.network or network_kind(self.params) or 'NFNet'
        if held != name:
            raise InputError(f'{self.path} is of a network with model.name={held}, not {name}')
        if self.about.activation not in (None, activation):
            raise InputError(
                f'{self.path} is of a network with model.activation={self.about.activation}, not {activation}'
            )


def load_checkpoint(path: epath.PathLike) -> Weights:
    """Reads parameters from a released file, a `.npz` of this project, timm's weights or a working directory.

    Which of these it is follows from the content. Nothing in a file is ever run: it can give arrays, numbers,
    strings and mappings, and is refused if it asks for anything else.

    Args:
      path: of the file or directory, on a disk or gs://BUCKET/PATH; or a name, 'released:F0',
        'timm:dm_nfnet_f0' or 'hf:OWNER/NAME', of a file that is downloaded once (`nfnets.weights.by_name`).

    Returns:
      The parameters by the names of the released weights, and their metadata.

    Raises:
      InputError: it does not exist, is none of these, is damaged, or asks for more than arrays.
      TrainingStopped: a server or bucket does not answer, which may be over soon.
    """
    path = as_path(path)
    try:
        if by_name.is_name(path):
            return _read_file(path, as_path(by_name.locate(str(path))))
        return _read_workdir(path) if path.is_dir() else _read_file(path, path)
    except file_errors() as error:
        hint = by_name.hint(str(path)) if isinstance(error, FileNotFoundError) else ''
        raise failure(f'{path} cannot be read: {why(error)}{hint}', error) from error


def _read_workdir(path: epath.Path) -> Weights:
    from nfnets.run.workdir import read_run  # Orbax takes a while to import.

    run = read_run(path)
    data, model = run.settings['data'], run.settings['model']
    about = About(
        class_names=run.class_names,
        preprocessing=Preprocessing(data['eval_size'], data['eval_margin'], data['eval_style']),
        train_size=data['train_size'],
        network=model['name'],
        activation=model['activation'],
        loss=run.settings['train']['loss'],
        step=run.step,
    )
    return Weights(
        path,
        'workdir',
        run.state['params'],
        about,
        run.state['ema_params'],
        network_state=run.state['network_state'],
        ema_network_state=run.state['ema_network_state'],
    )


def _read_file(path: epath.Path, place: epath.Path) -> Weights:
    check_size(path, size(place))
    try:
        with local_copy(place) as file:
            read = _reader(file)
            if read is None:
                raise InputError(f'{path} is none of the forms that are read: {_KINDS}')
            kind, params, about = read(file)
            with file.open('rb') as content:
                sha256 = hashlib.file_digest(content, 'sha256').hexdigest()
    except (Refused, zipfile.BadZipFile, NotImplementedError, EOFError, struct.error, KeyError) as error:
        raise InputError(f'{path} is refused: {error}; only arrays, numbers and mappings are read') from error
    if not params:
        raise InputError(f'{path} holds no parameters')
    return Weights(path, kind, params, about, sha256=sha256)


def _reader(file: Path) -> Callable[[Path], tuple[str, Params, About]] | None:
    """The reader of files of this form."""
    with file.open('rb') as content:
        head = content.read(9)
    if head[:4] == b'PK\x03\x04':
        return _read_archive
    # Before pickles: the length of the header may begin as they do. They do not continue like this.
    if len(head) == 9 and int.from_bytes(head[:8], 'little') < size(file) and head[8:] == b'{':
        return _read_safetensors
    return _read_pickle if head[:1] == b'\x80' else None


def _read_archive(path: Path) -> tuple[str, Params, About]:
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        if any(m.compress_type != zipfile.ZIP_STORED or m.flag_bits & 1 for m in members):
            raise Refused('its members are compressed')
        if sum(m.file_size for m in members) > path.stat().st_size:
            raise Refused('its members are larger than the file')
        if npz.is_npz(archive):
            return 'npz', *npz.read_npz(archive)
        if sum(m.filename.endswith('data.pkl') for m in members) == 1:
            return 'timm', from_timm(torch_files.read_torch_zip(archive)), About()
    raise Refused('it is an archive of neither arrays nor tensors')


def _read_pickle(path: Path) -> tuple[str, Params, About]:
    with _mapped(path) as stream:
        if torch_files.is_legacy(stream):
            return 'timm', from_timm(torch_files.read_torch_legacy(stream)), About()
        return 'released', read_released(stream), About()


@contextlib.contextmanager
def _mapped(path: Path) -> Iterator[mmap.mmap]:
    # Mapped, since a read of more than there is then takes no more memory than there is.
    with path.open('rb') as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as stream:
        yield stream


def _read_safetensors(path: Path) -> tuple[str, Params, About]:
    import safetensors

    try:
        with safetensors.safe_open(path, 'numpy') as file:
            metadata = file.metadata() or {}
            state_dict = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (safetensors.SafetensorError, TypeError, ValueError, AttributeError) as error:
        raise Refused(str(error)) from error
    about = from_json(metadata[METADATA_KEY]) if METADATA_KEY in metadata else About()
    return 'timm', from_timm(state_dict), about
