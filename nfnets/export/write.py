"""Writes the network of a checkpoint for another runtime, runs that, and compares the logits."""

import importlib
import importlib.util
import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from nfnets.data.augment import normalize
from nfnets.errors import InputError
from nfnets.files import failure, file_errors, why
from nfnets.inference.classifier import Classifier
from nfnets.models.precision import float32_products
from nfnets.weights import about as about_lib
from nfnets.weights.about import About

_NUM_IMAGES = 3  # Of the comparison.


class Form(NamedTuple):
    """A form that a network can be written in.

    Attributes:
      suffix: of the target's name.
      packages: that write and run it.
      beside: endings of further files, after the target's name.
      usage: lines of Python that run it, with {target} in them.
    """

    suffix: str
    packages: tuple[str, ...]
    beside: tuple[str, ...]
    usage: str

    def files_beside(self, target: Path) -> list[Path]:
        """The further files."""
        return [target.with_name(target.name + ending) for ending in self.beside]


FORMS: Mapping[str, Form] = {
    'onnx': Form(
        '.onnx',
        ('onnx', 'onnxruntime'),
        ('.data',),
        'import onnxruntime\n'
        'session = onnxruntime.InferenceSession({target!r})\n'
        "[logits] = session.run(None, {{'images': images}})",
    ),
    'stablehlo': Form(
        '.stablehlo',
        ('jax',),
        ('.json',),
        'import jax.export, pathlib\n'
        'network = jax.export.deserialize(bytearray(pathlib.Path({target!r}).read_bytes()))\n'
        'logits = network.call(images)',
    ),
    'saved_model': Form(
        '',
        ('tensorflow',),
        (),
        "import tensorflow as tf\nmodel = tf.saved_model.load({target!r})\nlogits = model(images)['logits']",
    ),
}


class Exported(NamedTuple):
    """What was written.

    Attributes:
      num_bytes: in all of its files.
      difference: the largest of a logit from this project's, relative to the largest logit.
    """

    num_bytes: int
    difference: float


def check_target(target: Path, form: str, precision: str) -> None:
    """Refuses what cannot be written, before any work.

    Raises:
      InputError: the target or a file beside it exists, its directory does not, the form has no such
        precision, or a package is missing.
    """
    for path in (target, *FORMS[form].files_beside(target)):
        if path.exists():
            raise InputError(f'{path} exists already: remove it first, or give another name')
    if not target.parent.is_dir():
        raise InputError(f'{target} cannot be written: there is no directory {target.parent}')
    if form == 'onnx' and precision == 'bfloat16':
        raise InputError(
            '--precision=bfloat16: onnxruntime has no such convolutions; give float32 or float16'
        )
    for package in FORMS[form].packages:
        if importlib.util.find_spec(package) is None:
            raise InputError(f"{package} is not installed: pip install 'nfnets[export]'")


def export(
    classifier: Classifier, about: About, target: Path, form: str, *, precision: str, from_pixels: bool
) -> Exported:
    """Writes a network, for any number of images, and compares its logits on random ones.

    Args:
      classifier: the network.
      about: metadata of its checkpoint.
      target: as `check_target` wants it; it appears whole or not at all.
      form: one of `FORMS`.
      precision: as `Graph.astype` takes it; images and logits are not rounded to it.
      from_pixels: whether images are pixels, uint8 [N, size, size, 3], else normalized, float32.

    Raises:
      InputError: it cannot be written, or overflows in the precision.
    """
    graph = classifier.fold(from_pixels=from_pixels).astype(precision)
    pixels = np.random.default_rng(0).integers(0, 256, (_NUM_IMAGES, graph.size, graph.size, 3), np.uint8)
    images = pixels if from_pixels else np.asarray(normalize(jnp.asarray(pixels)))
    runtime = importlib.import_module(f'nfnets.export.{form}')
    metadata = _metadata(classifier, about, precision, from_pixels)
    try:
        with tempfile.TemporaryDirectory(
            prefix=f'{target.name}.', suffix='.tmp', dir=target.parent
        ) as folder:
            draft = Path(folder, target.name)
            runtime.write(draft, graph, images.dtype, metadata, *FORMS[form].files_beside(draft))
            difference = _difference(runtime.run(draft, images), classifier, pixels, precision)
            num_bytes = sum(path.stat().st_size for path in Path(folder).rglob('*') if path.is_file())
            for path in Path(folder).iterdir():
                path.rename(target.with_name(path.name))
    except file_errors() as error:
        raise failure(f'{target} cannot be written: {why(error)}', error) from error
    return Exported(num_bytes, difference)


def _difference(logits: np.ndarray, classifier: Classifier, pixels: np.ndarray, precision: str) -> float:
    """The largest difference from the logits of the network itself, relative to the largest of those."""
    with float32_products():
        apply = jax.jit(classifier.network.apply, static_argnums=4)
        expected = apply(*classifier.variables, None, normalize(jnp.asarray(pixels)), False)[0]['logits']
    if not np.all(np.isfinite(logits)):
        raise InputError(f'{precision} overflows in this network: give another --precision')
    largest = max(np.max(np.abs(expected)), np.finfo(np.float32).tiny)  # A new classifier may give zeros.
    return float(np.max(np.abs(logits - expected)) / largest)


def _metadata(classifier: Classifier, about: About, precision: str, from_pixels: bool) -> dict[str, Any]:
    known = json.loads(about_lib.to_json(about))
    return known | {
        'class_names': list(classifier.class_names),
        'preprocessing': vars(classifier.preprocessing),
        'images': 'pixels, uint8' if from_pixels else 'normalized, float32',
        'precision': precision,
    }
