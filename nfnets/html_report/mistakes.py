"""Predictions for held-out images: which classes are confused, and which errors have the largest loss."""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from nfnets.data.source import Source
from nfnets.data.stream import Batch, eval_batches
from nfnets.data.subset import Subset
from nfnets.html_report.images import spaced, to_bytes
from nfnets.inference.predict import Predictor

_BATCH_SIZE = 32


@dataclasses.dataclass(frozen=True)
class Predictions:
    """Probabilities of held-out images.

    Attributes:
      indices: of the images in their split, int [N].
      labels: int [N, L], each at least one, then -1; L = 1 unless these are sets.
      probabilities: float32 [N, K].
    """

    indices: np.ndarray
    labels: np.ndarray
    probabilities: np.ndarray

    @property
    def predicted(self) -> np.ndarray:
        """The likeliest label of each image, int [N]."""
        return np.argmax(self.probabilities, axis=1)

    @property
    def is_right(self) -> np.ndarray:
        """Whether the likeliest label of each image is one of its own, bool [N]."""
        return np.any(self.labels == self.predicted[:, None], axis=1)

    @property
    def own_probability(self) -> np.ndarray:
        """Probability of the likeliest of each image's own labels, float32 [N]."""
        own = np.take_along_axis(self.probabilities, np.maximum(self.labels, 0), axis=1)
        return np.max(own * (self.labels >= 0), axis=1)


class Mistake(NamedTuple):
    """An image that is taken for something else.

    Attributes:
      pixels: uint8 [H, W, 3], as the network sees it.
      labels: its own.
      predicted: the likeliest.
      probability: of the likeliest, 0..1.
      own_probability: of its own.
      where: which image it is.
    """

    pixels: np.ndarray
    labels: tuple[int, ...]
    predicted: int
    probability: float
    own_probability: float
    where: str


def predict_split(
    predictor: Predictor, source: Source, *, most: int, name: str, skip_broken: bool
) -> Predictions:
    """Predicts held-out images, with a progress bar.

    Args:
      predictor: the network.
      source: the evaluation split.
      most: how many images, evenly spaced over the split.
      name: of the run, for the bar.
      skip_broken: leave out images that cannot be decoded.

    Raises:
      InputError: an image cannot be decoded, and skip_broken is not given.
    """
    indices = spaced(len(source), most)
    labels, probabilities, is_real = [], [], []
    batches = _batches(predictor, source, indices, skip_broken)
    for batch in tqdm(batches, desc=name, unit='batch', total=-(-len(indices) // _BATCH_SIZE)):
        sets = batch['labels'].reshape(_BATCH_SIZE, -1)
        labels.append(sets)
        probabilities.append(predictor(batch['images']))
        is_real.append((batch['mask'] > 0) & np.any(sets >= 0, axis=1))
    kept = np.concatenate(is_real)
    return Predictions(
        indices[kept[: len(indices)]], np.concatenate(labels)[kept], np.concatenate(probabilities)[kept]
    )


def worst_mistakes(
    predictor: Predictor, source: Source, predictions: Predictions, most: int
) -> list[Mistake]:
    """The mistakes in which the likeliest of an image's own labels is the least likely, the worst first."""
    places = worst(predictions, most)
    if not places.size:
        return []
    chosen = predictions.indices[places]
    pixels = np.concatenate([b['images'] for b in _batches(predictor, source, chosen, skip_broken=False)])
    return [
        Mistake(
            to_bytes(image),
            labels=tuple(k for k in predictions.labels[i].tolist() if k >= 0),
            predicted=int(predictions.predicted[i]),
            probability=float(predictions.probabilities[i].max()),
            own_probability=float(predictions.own_probability[i]),
            where=source.describe(int(predictions.indices[i])),
        )
        for i, image in zip(places, pixels, strict=False)  # The last batch is filled up.
    ]


def worst(predictions: Predictions, most: int) -> np.ndarray:
    """Places in the predictions of the worst mistakes, the worst first."""
    wrong = np.flatnonzero(~predictions.is_right)
    return wrong[np.argsort(predictions.own_probability[wrong], kind='stable')][:most]


def confusion_matrix(predictions: Predictions, classes: np.ndarray) -> np.ndarray:
    """Number of examples of some classes (row) by predicted class (column), int [C, C]; of single labels."""
    own = predictions.labels[:, :1] == classes
    taken_for = predictions.predicted[:, None] == classes
    return own.T.astype(int) @ taken_for.astype(int)


def most_mistaken(predictions: Predictions, most: int) -> np.ndarray:
    """Labels of the classes with the most mistakes, own and taken for them, in order of label."""
    wrong = ~predictions.is_right
    involved = np.concatenate([predictions.labels[wrong, 0], predictions.predicted[wrong]])
    count = np.bincount(involved, minlength=predictions.probabilities.shape[1])
    return np.sort(np.argsort(-count, kind='stable')[:most])


def confused_pairs(predictions: Predictions, most: int) -> list[tuple[int, int, int]]:
    """(label, taken for, how often), the most frequent first."""
    wrong = ~predictions.is_right
    both = np.stack([predictions.labels[wrong, 0], predictions.predicted[wrong]], axis=1)
    pairs, counts = np.unique(both, axis=0, return_counts=True)
    order = np.argsort(-counts, kind='stable')[:most]
    return [(int(pairs[i, 0]), int(pairs[i, 1]), int(counts[i])) for i in order]


def _batches(
    predictor: Predictor, source: Source, indices: Sequence[int] | np.ndarray, skip_broken: bool
) -> Iterator[Batch]:
    return iter(
        eval_batches(
            Subset(source, indices),
            predictor.preprocessing,
            batch_size=_BATCH_SIZE,
            skip_broken=skip_broken,
        )
    )
