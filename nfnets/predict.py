"""Classifies pictures with a checkpoint, which tells network, preprocessing and the names of the classes."""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import jax
import numpy as np
from etils import epath

from nfnets.data.augment import normalise
from nfnets.data.imagenet_names import readable_names
from nfnets.data.picture import read_picture
from nfnets.data.preprocessing import Preprocessing, default_margin
from nfnets.errors import InputError
from nfnets.models.nfnet import make_network, parameter_shapes
from nfnets.weights.fit import check_params, require_architecture
from nfnets.weights.load import Weights

_BATCH_SIZE = 8


class Prediction(NamedTuple):
    """One of the likeliest classes of a picture.

    Attributes:
      label: of the class.
      name: for people.
      probability: 0..1.
    """

    label: int
    name: str
    probability: float


class Predictor:
    """A network with its parameters, ready to classify.

    Attributes:
      preprocessing: of the pictures.
      names: of the classes, 0 first.
    """

    def __init__(self, weights: Weights, *, ema: bool = False, size: int | None = None):
        """Builds the network that the parameters are of.

        Args:
          weights: a checkpoint.
          ema: of a working directory, take the average of the parameters.
          size: side of the network's input, px; what the checkpoint tells, or its variant, if None.

        Raises:
          InputError: the checkpoint holds no NFNet, or none whose size of images is known.
        """
        params, about = weights.choose(ema)
        network = require_architecture(params, f'{weights.path} holds no whole NFNet')
        made = make_network(network.num_classes, network.variant, activation=about.activation or 'gelu')
        check_params(params, parameter_shapes(made), str(weights.path))
        if about.class_names is not None and len(about.class_names) != network.num_classes:
            raise InputError(
                f'{weights.path} has {network.num_classes} classes and names for {len(about.class_names)}'
            )
        self.preprocessing = _preprocessing(
            weights, network.variant.eval_size if network.name else None, size
        )
        self.names = readable_names(about.class_names, network.num_classes)
        self._params = jax.device_put(params)
        self._probabilities = jax.jit(
            lambda params, images: jax.nn.softmax(
                made.apply(params, None, normalise(images), False)['logits'], axis=-1
            )
        )

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """Probabilities [N, num_classes] of pixels [N, size, size, 3], float 0..255."""
        return np.asarray(self._probabilities(self._params, images))

    def classify(
        self, paths: Iterable[epath.Path], most: int = 5
    ) -> Iterator[tuple[epath.Path, list[Prediction]]]:
        """The likeliest classes of each picture, in order; InputError at one that cannot be read."""
        batch: list[tuple[epath.Path, np.ndarray]] = []
        try:
            for path in paths:
                batch.append((path, read_picture(path, self.preprocessing)))
                if len(batch) == _BATCH_SIZE:
                    yield from self._classify(batch, most)
                    batch = []
        except InputError:
            yield from self._classify(batch, most)
            raise
        yield from self._classify(batch, most)

    def _classify(
        self, batch: list[tuple[epath.Path, np.ndarray]], most: int
    ) -> Iterator[tuple[epath.Path, list[Prediction]]]:
        if not batch:
            return
        for (path, _), probabilities in zip(batch, self(np.stack([x for _, x in batch])), strict=True):
            best = np.argsort(-probabilities, kind='stable')[:most]
            yield path, [Prediction(int(i), self.names[i], float(probabilities[i])) for i in best]


def _preprocessing(weights: Weights, variant_size: int | None, size: int | None) -> Preprocessing:
    told = weights.about.preprocessing
    if size is None and told is not None:
        return told
    size = size or variant_size
    if size is None:
        raise InputError(
            f'{weights.path} does not tell the size of its images, and is none of the family: give --size'
        )
    style = told.style if told else 'paper'
    return Preprocessing(size, told.margin if told else default_margin(size, style), style)
