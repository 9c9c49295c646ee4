"""A network ready for images: what a checkpoint knows of network, preprocessing and classes in one object."""

import functools
import operator
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import haiku as hk
import jax
import numpy as np
from etils import epath

from nfnets.data.augment import normalize
from nfnets.errors import InputError
from nfnets.folding.run import apply
from nfnets.inference.classifier import make_classifier
from nfnets.losses import LOSSES, SOFTMAX
from nfnets.models.layers import Outputs
from nfnets.models.precision import float32_products
from nfnets.weights.load import Weights, load_checkpoint

if TYPE_CHECKING:
    from nfnets.data.image_files import Image, Images

_BATCH_SIZE = 8


class Prediction(NamedTuple):
    """One of the likeliest classes of an image.

    Attributes:
      label: number of the class.
      name: readable name of the class.
      probability: 0..1.
    """

    label: int
    name: str
    probability: float


class Features(NamedTuple):
    """What a network makes of images; of a single image without the axis N.

    Attributes:
      pooled: float32 [N, C], what the classifier sees.
      grids: the feature maps of each stage, float32 [N, S / s, S / s, C], rounded up, of images of S px; of
        the networks with names s = 4, 8, 16 and 32. In pre-activation networks, all but Fixup's, the
        activation that follows is not applied.
    """

    pooled: np.ndarray
    grids: tuple[np.ndarray, ...]


def load(path: epath.PathLike, *, ema: bool = False, size: int | None = None) -> 'Predictor':
    """Loads a network with its parameters, its preprocessing and the names of its classes.

    Args:
      path: whatever `load_checkpoint` takes; a working directory may be of any network.
      ema: of a working directory, take the EMA of the parameters.
      size: side of the network's input, px; None: the checkpoint's or its variant's.

    Raises:
      InputError: the checkpoint cannot be read, or see `Predictor`.
    """
    return Predictor(load_checkpoint(path), ema=ema, size=size)


class Predictor:
    """A network with its parameters, ready for images.

    An image is a path, on a disk or gs://BUCKET/PATH, of a file of any format that Pillow reads, an image of
    Pillow, or an array uint8 [H, W, 3] or [H, W]; several are an iterable of these or an array [N, H, W, 3].
    Their sizes do not matter. Decoding needs TensorFlow, which is imported with the first image. A JPEG's
    path gives the pixels of evaluation; Pillow's decoder, and others, may round some otherwise.

    Attributes:
      preprocessing: how images are resized and cropped.
      class_names: readable names of the classes, 0 first.
      params: {module: {name: array}}, in the host's memory, for `apply`.
    """

    def __init__(self, weights: Weights, *, ema: bool = False, size: int | None = None):
        """Builds the network that the parameters are of: arguments and errors as of `make_classifier`."""
        self._classifier = make_classifier(weights, ema=ema, size=size)
        self.preprocessing = self._classifier.preprocessing
        self.class_names = self._classifier.class_names
        self.params, self._network_state = self._classifier.variables
        self._loss = LOSSES[weights.about.loss or SOFTMAX]
        self._features = jax.jit(lambda *given: _features(self.apply(*given)))

    @functools.cached_property
    def _probabilities(self) -> Callable[[np.ndarray], jax.Array]:
        """The folded network, which is made when the first image is classified."""
        graph, loss = self._classifier.fold(from_pixels=True), self._loss
        run = jax.jit(lambda arrays, images: loss.probabilities(apply(graph, arrays, images)))
        return functools.partial(run, jax.device_put(graph.arrays()))

    def apply(self, params: hk.Params, images: jax.Array) -> Outputs:
        """The network in evaluation, to be compiled, differentiated or vectorized by JAX.

        Args:
          params: as `params`.
          images: pixels [N, H, W, 3], float, 0..255, such as `preprocess` gives.

        Returns:
          'logits' [N, num_classes], 'pool' [N, C] and 'grids', as of `NFNet`.
        """
        with float32_products():
            return self._classifier.network.apply(
                params, self._network_state, None, normalize(images), False
            )[0]

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """Probabilities [N, num_classes] of pixels [N, size, size, 3], float 0..255.

        Those of a network trained with the sigmoid loss are each by itself, and do not add up to 1.
        """
        return np.asarray(self._probabilities(images))

    def predict(self, images: 'Images', most: int = 5) -> Any:
        """The likeliest classes of images, the likeliest first.

        Args:
          images: one or several.
          most: how many classes of each image.

        Returns:
          A list of `Prediction` for one image, a list of such lists for several.

        Raises:
          InputError: an image cannot be read.
        """
        several, is_one = _several(images)
        found = [predictions for _, predictions in self.classify(several, most)]
        return found[0] if is_one else found

    def features(self, images: 'Images') -> Features:
        """What the network makes of images, before it classifies them.

        Args:
          images: one or several; the features of all are held at once, 8 MB for each image by F0.

        Raises:
          InputError: an image cannot be read, or there is none.
        """
        several, is_one = _several(images)
        parts = []
        for given, pixels in self._batches(several):
            found = jax.device_get(self._features(self.params, pixels))
            parts.append(jax.tree.map(operator.itemgetter(slice(len(given))), found))
        if not parts:
            raise InputError('there is no image to take features of')
        return jax.tree.map(lambda *each: each[0][0] if is_one else np.concatenate(each), *parts)

    def preprocess(self, images: 'Images') -> np.ndarray:
        """The pixels that the network takes, float32 [N, size, size, 3], 0..255 but for overshoot.

        Raises:
          InputError: an image cannot be read, or there is none.
        """
        from nfnets.data.image_files import read_image

        several, _ = _several(images)
        pixels = [read_image(image, self.preprocessing) for image in several]
        if not pixels:
            raise InputError('there is no image to preprocess')
        return np.stack(pixels)

    def classify(self, images: 'Images', most: int = 5) -> Iterator[tuple['Image', list[Prediction]]]:
        """Yields the likeliest classes of each image, in order, while it reads on; for any number of images.

        Args:
          images: one or several.
          most: how many classes of each image.

        Yields:
          An image as it was given, and its classes, the likeliest first.

        Raises:
          InputError: at an image that cannot be read.
        """
        for given, pixels in self._batches(_several(images)[0]):
            for image, probabilities in zip(given, self(pixels), strict=False):
                best = np.argsort(-probabilities, kind='stable')[:most]
                yield (
                    image,
                    [Prediction(int(i), self.class_names[i], float(probabilities[i])) for i in best],
                )

    def _batches(self, images: Iterable['Image']) -> Iterator[tuple[list['Image'], np.ndarray]]:
        """Images as they were given, and their pixels, which other images may follow."""
        from nfnets.data.image_files import read_image  # Late: TensorFlow takes seconds to import.

        for given, pixels in in_batches(images, lambda image: read_image(image, self.preprocessing)):
            yield given, np.stack(padded(pixels))


def in_batches(
    images: Iterable['Image'], read: Callable[['Image'], np.ndarray]
) -> Iterator[tuple[list['Image'], list[np.ndarray]]]:
    """Images as they were given, a few at a time, and what was read of each.

    Raises:
      InputError: of one that cannot be read, after those before it.
    """
    given: list[Image] = []
    pixels: list[np.ndarray] = []
    try:
        for image in images:
            pixels.append(read(image))
            given.append(image)
            if len(given) == _BATCH_SIZE:
                yield given, pixels
                given, pixels = [], []
    except InputError:
        if given:
            yield given, pixels
        raise
    if given:
        yield given, pixels


def padded(some: list[np.ndarray]) -> list[np.ndarray]:
    """As many as 1, 2, 4 or 8, the last one again: each other number would have a network compiled for it."""
    return some + some[-1:] * ((1 << (len(some) - 1).bit_length()) - len(some))


def _several(images: Any) -> tuple[Iterable['Image'], bool]:
    """Images as an iterable, and whether a single one was given."""
    from nfnets.data.image_files import is_one_image

    return ([images], True) if is_one_image(images) else (images, False)


def _features(outputs: Outputs) -> Features:
    return Features(outputs['pool'], outputs['grids'])
