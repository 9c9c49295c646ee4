"""A tiny validation set of ImageNet, ReaL, V2, A, R and Sketch, made by TFDS's own builders from archives.

The archives lie where TFDS keeps what it has downloaded: it asks for none whose name there has the checksum
that it expects, and does not look into it again.
"""

import io
import json
import tarfile
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import tensorflow_datasets as tfds
from tensorflow_datasets.core.download import resource
from tiny_imagenet import jpeg

from nfnets.data.imagenet import imagenet_names

SYNSETS = list(imagenet_names())
# Of each set the labels of its images, in the order of their names; of ReaL, sets of labels. ImageNet's are
# TFDS's for images of these names, which are ReaL's, too.
LABELS = {
    'real': [[3], [], [5, 65, 7], [], [1, 42], *([i, i + 1] for i in range(14))],
    'v2': [0, 0, 1, 500, 999, 999, *range(40, 50)],
    'a': [6, 11, 11, 313, 988, 6, 313],
    'r': [1, 1, 29, 988, 963],
    'sketch': [0, 42, 7, 65],
}
_BUILDERS = {
    'real': ('imagenet2012_real', 'real.json'),
    'v2': ('imagenet_v2/matched-frequency', 'imagenetv2-matched-frequency.tar.gz'),
    'a': ('imagenet_a', 'imagenet-a.tar'),
    'r': ('imagenet_r', 'imagenet-r.tar'),
    'sketch': ('imagenet_sketch', 'ImageNet-Sketch.zip'),
}


def prepare(data_dir: Path) -> None:
    """Prepares `imagenet2012` with its validation split alone, and all sets of `LABELS`, in data_dir."""
    rng = np.random.default_rng(0)
    manual = data_dir / 'downloads' / 'manual'
    manual.mkdir(parents=True)
    images = {f'ILSVRC2012_val_{i:08d}.JPEG': jpeg(rng) for i in range(1, len(LABELS['real']) + 1)}
    (manual / 'ILSVRC2012_img_val.tar').write_bytes(_tar(images))
    _build(tfds.builder('imagenet2012', data_dir=data_dir), data_dir)
    for key, (name, file) in _BUILDERS.items():
        builder = tfds.builder(name, data_dir=data_dir)
        (url,) = (url for url, info in builder.url_infos.items() if info.filename == file)
        folder = data_dir / 'downloads' / builder.name
        folder.mkdir(parents=True, exist_ok=True)
        cached = folder / resource.get_dl_fname(url, builder.url_infos[url].checksum)
        cached.write_bytes(_archive(key, LABELS[key], rng))
        resource.write_info_file(
            url=url,
            path=cached,
            dataset_name=builder.name,
            original_fname=file,
            url_info=builder.url_infos[url],
        )
        _build(builder, data_dir)


def _build(builder: tfds.core.DatasetBuilder, data_dir: Path) -> None:
    downloads = data_dir / 'downloads'
    config = tfds.download.DownloadConfig(manual_dir=downloads / 'manual', num_shards=None)
    builder.download_and_prepare(download_dir=downloads, download_config=config)


def _archive(key: str, labels: list, rng: np.random.Generator) -> bytes:
    if key == 'real':
        return json.dumps(labels).encode()
    images = {name: jpeg(rng) for name in _file_names(key, labels)}
    top = {'v2': 'imagenetv2-matched-frequency-format-val/', 'a': 'imagenet-a/', 'r': 'imagenet-r/'}
    if key == 'sketch':
        file = io.BytesIO()
        with zipfile.ZipFile(file, 'w') as archive:
            for name, content in images.items():
                archive.writestr(f'sketch/{name}', content)
        return file.getvalue()
    return _tar(
        {top[key] + name: content for name, content in images.items()}, 'w:gz' if key == 'v2' else 'w'
    )


def _file_names(key: str, labels: list[int]) -> list[str]:
    """Names below the top of the archive; V2's folders are numbers of classes."""
    folders = [str(label) if key == 'v2' else SYNSETS[label] for label in labels]
    ending = 'JPEG' if key == 'sketch' else 'jpeg' if key == 'v2' else 'jpg'
    return [f'{folder}/{index:04d}.{ending}' for index, folder in enumerate(folders)]


def _tar(files: Mapping[str, bytes], mode: str = 'w') -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode=mode) as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return file.getvalue()
