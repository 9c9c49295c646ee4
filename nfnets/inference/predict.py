"""Classifies images with a checkpoint, which knows network, preprocessing and the names of the classes."""

import os
from collections.abc import Iterable, Iterator
from typing import NamedTuple, TypeVar

import haiku as hk
import jax
import ml_collections
import numpy as np
from etils import epath

from nfnets import build
from nfnets.data.augment import normalize
from nfnets.data.image_files import read_image
from nfnets.data.imagenet import readable_names
from nfnets.data.preprocessing import Preprocessing, default_margin
from nfnets.errors import InputError
from nfnets.files import as_path
from nfnets.models.networks import make_network, variable_shapes
from nfnets.models.param_layout import UNSTACKED
from nfnets.models.precision import float32_products
from nfnets.models.variants import RECIPES
from nfnets.run.workdir import CONFIG, read_config
from nfnets.weights.fit import check_params, require_architecture
from nfnets.weights.load import Weights

_Path = TypeVar('_Path', bound=epath.PathLike)
_BATCH_SIZE = 8


class Prediction(NamedTuple):
    """One of the likeliest classes of a image.

    Attributes:
      label: number of the class.
      name: readable name of the class.
      probability: 0..1.
    """

    label: int
    name: str
    probability: float


class Predictor:
    """A network with its parameters, ready to classify images.

    Attributes:
      preprocessing: how images are resized and cropped.
      names: readable names of the classes, 0 first.
    """

    def __init__(self, weights: Weights, *, ema: bool = False, size: int | None = None):
        """Builds the network that the parameters are of.

        Args:
          weights: a checkpoint; of a working directory, of any network.
          ema: of a working directory, take the EMA of the parameters.
          size: side of the network's input, px; None: the checkpoint's or its variant's.

        Raises:
          InputError: the checkpoint is a file and holds no NFNet, the size of its images is not known or not
            above 0, or it does not fit its network.
        """
        if size is not None and size < 1:
            raise InputError(f"--size={size}: the side of the network's input must be 1 px or more")
        variables, about = weights.variables(ema), weights.about
        network, num_classes, eval_size = _network(weights)
        for given, expected in zip(variables, variable_shapes(network), strict=True):
            check_params(given, expected, str(weights.path))
        if about.class_names is not None and len(about.class_names) != num_classes:
            raise InputError(
                f'{weights.path} has {num_classes} classes and names for {len(about.class_names)}'
            )
        self.preprocessing = _preprocessing(weights, eval_size, size)
        self.names = readable_names(about.class_names, num_classes)
        self._variables = jax.device_put(variables)

        def probabilities(variables: tuple[hk.Params, hk.State], images: jax.Array) -> jax.Array:
            with float32_products():
                outputs, _ = network.apply(*variables, None, normalize(images), False)
            return jax.nn.softmax(outputs['logits'], axis=-1)

        self._probabilities = jax.jit(probabilities)

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """Probabilities [N, num_classes] of pixels [N, size, size, 3], float 0..255."""
        return np.asarray(self._probabilities(self._variables, images))

    def classify(
        self, paths: _Path | Iterable[_Path], most: int = 5
    ) -> Iterator[tuple[_Path, list[Prediction]]]:
        """Yields the likeliest classes of each image, in order.

        Args:
          paths: strings or paths, or a single one; on a disk or gs://BUCKET/PATH.
          most: how many classes of each image.

        Yields:
          A path as it was given, and its classes, the likeliest first.

        Raises:
          InputError: at a image that cannot be read.
        """
        several = (paths,) if isinstance(paths, str | os.PathLike) else paths
        batch: list[tuple[_Path, np.ndarray]] = []
        try:
            for path in several:
                batch.append((path, read_image(as_path(path), self.preprocessing)))
                if len(batch) == _BATCH_SIZE:
                    yield from self._classify(batch, most)
                    batch = []
        except InputError:
            yield from self._classify(batch, most)
            raise
        yield from self._classify(batch, most)

    def _classify(
        self, batch: list[tuple[_Path, np.ndarray]], most: int
    ) -> Iterator[tuple[_Path, list[Prediction]]]:
        if not batch:
            return
        for (path, _), probabilities in zip(batch, self(np.stack([x for _, x in batch])), strict=True):
            best = np.argsort(-probabilities, kind='stable')[:most]
            yield path, [Prediction(int(i), self.names[i], float(probabilities[i])) for i in best]


def _network(weights: Weights) -> tuple[hk.TransformedWithState, int, int | None]:
    """A checkpoint's network, its number of classes, and the side of its images, px, if that is known."""
    if weights.kind == 'workdir':
        config = ml_collections.FrozenConfigDict(read_config(weights.path))
        try:
            return build.network(config, UNSTACKED), config.model.num_classes, config.data.eval_size
        except (AttributeError, KeyError) as error:
            raise InputError(f'{weights.path / CONFIG} is of another version: {error}') from error
    found = require_architecture(weights.params, f'{weights.path} holds no whole NFNet')
    network = make_network(
        'NFNet', found.num_classes, found.variant, activation=weights.about.activation or 'gelu'
    )
    return network, found.num_classes, RECIPES[found.name].eval_size if found.name else None


def _preprocessing(weights: Weights, variant_size: int | None, size: int | None) -> Preprocessing:
    known = weights.about.preprocessing
    if size is None and known is not None:
        return known
    size = variant_size if size is None else size
    if size is None:
        raise InputError(
            f'{weights.path} does not know the size of its images, and is none of the family: give --size'
        )
    style = known.style if known else 'paper'
    return Preprocessing(size, known.margin if known else default_margin(size, style), style)
