"""A detector of a run, ready for images."""

import functools
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, NamedTuple

import jax
import ml_collections
import numpy as np
from etils import epath

from nfnets.detection.anchors import check_side
from nfnets.detection.geometry import fit
from nfnets.detection.image_detections import ImageDetections, put_back
from nfnets.evaluation.detect import detect
from nfnets.inference.predict import in_batches, padded
from nfnets.models.param_layout import UNSTACKED
from nfnets.run.workdir import read_config
from nfnets.tasks import detection
from nfnets.weights.load import load_checkpoint

if TYPE_CHECKING:
    from nfnets.data.image_files import Image


class Found(NamedTuple):
    """What was found in an image.

    Attributes:
      image: as it was given.
      pixels: uint8 [H, W, 3].
      objects: the likeliest first.
    """

    image: 'Image'
    pixels: np.ndarray
    objects: ImageDetections


class Detector:
    """Mask R-CNN with the parameters of a run.

    Attributes:
      class_names: by label.
      size: side of the square that an image is put into, px.
      step: updates that made the parameters.
    """

    def __init__(self, workdir: epath.Path, *, ema: bool = False, size: int | None = None):
        """Builds the network.

        Args:
          workdir: of a run with task='detection'.
          ema: whether to take the EMA of the parameters.
          size: px; None: that of the run's evaluations.

        Raises:
          InputError: the run has no checkpoint that can be read, or size does not fit the network.
        """
        config = ml_collections.FrozenConfigDict(read_config(workdir, 'detection'))
        self.size = size or config.data.eval_size
        check_side('--size', self.size)
        weights = load_checkpoint(workdir)
        self.step = weights.about.step
        self.class_names = weights.about.class_names or tuple(map(str, range(config.model.num_classes)))
        self._variables = jax.device_put(weights.variables(ema))
        self._run = jax.jit(functools.partial(detect, detection.network(config, UNSTACKED)))

    def detect(self, images: Iterable['Image']) -> Iterator[Found]:
        """Yields what is found in each image, in order, while it reads on; for any number of images.

        Args:
          images: as `nfnets.data.image_files.read_image` takes them.

        Raises:
          InputError: at an image that cannot be read.
        """
        from nfnets.data.image_files import read_whole  # Late: TensorFlow takes seconds to import.

        for given, pixels in in_batches(images, read_whole):
            for image, whole, objects in zip(given, pixels, self._objects(pixels), strict=True):
                yield Found(image, whole, objects)

    def _objects(self, pixels: list[np.ndarray]) -> Iterator[ImageDetections]:
        from nfnets.detection.letterbox import place_pixels

        sizes = [whole.shape[:2] for whole in pixels]
        placings = [fit(height, width, self.size) for height, width in sizes]
        squares = [
            place_pixels(whole, np.array(placing, np.int64), self.size).numpy()
            for whole, placing in zip(pixels, placings, strict=True)
        ]
        shown = [np.array(placing.shown, np.float32) for placing in placings]
        outcome = self._run(self._variables, np.stack(padded(squares)), np.stack(padded(shown)))
        found, masks = jax.device_get(outcome)
        for i, (height, width) in enumerate(sizes):
            yield put_back(jax.tree.map(lambda x, i=i: x[i], found), masks[i], height, width, self.size)
