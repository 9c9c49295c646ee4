"""Prepares TFDS's `fashion_mnist` where it cannot be downloaded, from the files of a Debian package.

    apt-get install dataset-fashion-mnist
    python scripts/experiments/fashion_mnist.py /usr/share/datasets/fashion-mnist DATA

With a network, `tfds build fashion_mnist --data_dir=DATA` gives the same. Debian takes name and time out of
the header of each gzip file. With these put back the files are the published ones, bit by bit: they have the
SHA-256 that TFDS's own builder asks for. It writes 60,000 images to train on and 10,000 to test on, gray, 28
px, in ten classes.
"""

import hashlib
import struct
import tempfile
from collections.abc import Sequence
from pathlib import Path

import tensorflow_datasets as tfds

from nfnets.commands.command_line import Parser, run
from nfnets.errors import InputError

_NAME = 'fashion_mnist'
# When the published files were compressed, seconds since 1970.
_TIMES = {
    'train-images-idx3-ubyte': 1504176606,
    'train-labels-idx1-ubyte': 1504176606,
    't10k-images-idx3-ubyte': 1504176627,
    't10k-labels-idx1-ubyte': 1504176627,
}
_HEADER = 10  # Bytes of a gzip file before what is compressed, without a name (RFC 1952).
_HAS_NAME = 8  # Its flag.


def published(path: Path, sha256: str) -> bytes:
    """The published form of one of the four files, restored where its header lacks name and time.

    Args:
      path: NAME.gz.
      sha256: of the published file, hexadecimal.

    Raises:
      InputError: it cannot be read, or is another file.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f'{path} cannot be read: {error.strerror}') from error
    name = path.stem
    magic, flags, _, rest = content[:3], content[3:4], content[4:8], content[_HEADER:]
    if flags == b'\0':
        named = bytes([_HAS_NAME]) + struct.pack('<I', _TIMES[name]) + b'\0\3'
        content = magic + named + name.encode() + b'\0' + rest
    found = hashlib.sha256(content).hexdigest()
    if found != sha256:
        raise InputError(f'{path} is not the published file: its SHA-256 is {found}, not {sha256}')
    return content


def main(argv: Sequence[str]) -> None:
    """Restores the four files and hands them to TFDS's builder.

    Raises:
      InputError: a file is missing or another.
    """
    parser = Parser(__doc__)
    parser.add_argument('source', type=Path, help='directory of the four files')
    parser.add_argument('target', type=Path, help="TFDS's data_dir, config.data.dir")
    arguments = parser.parse_args(argv)
    builder = tfds.builder(_NAME, data_dir=arguments.target, file_format='array_record')
    with tempfile.TemporaryDirectory() as files:
        for info in builder.url_infos.values():
            content = published(arguments.source / info.filename, info.checksum)
            (Path(files) / info.filename).write_bytes(content)
        builder.download_and_prepare(download_config=tfds.download.DownloadConfig(manual_dir=files))
    for name, split in builder.info.splits.items():
        print(f'{builder.data_path}: {name}, {split.num_examples:,} images')


if __name__ == '__main__':
    run(main)
