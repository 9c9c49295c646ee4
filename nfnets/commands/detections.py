"""What `nfnets-predict` prints and draws of the objects in an image."""

import itertools
import json
from collections.abc import Iterator
from typing import Any, NamedTuple

from etils import epath
from PIL import Image

from nfnets.detection.drawing import draw_found
from nfnets.files import failure, file_errors, replacing, why
from nfnets.inference.detector import Found
from nfnets.inference.tables import csv_rows

COLUMNS = ('image', 'rank', 'label', 'name', 'score', 'left', 'top', 'right', 'bottom')


class Row(NamedTuple):
    """An object.

    Attributes:
      label: class from 0.
      name: of the class.
      score: 0..1.
      box: left, top, right, bottom, px of the image.
      mask: packed run lengths, as in COCO's files.
    """

    label: int
    name: str
    score: float
    box: list[float]
    mask: dict[str, Any]


def rows(found: Found, class_names: tuple[str, ...], least_score: float) -> Iterator[Row]:
    """The objects of an image that are likely enough, the likeliest first."""
    for box, label, score, packed in zip(*found.objects, strict=True):
        if score >= least_score:
            corners = [round(edge, 2) for edge in box.tolist()]
            mask = {'size': packed['size'], 'counts': packed['counts'].decode()}
            yield Row(int(label), class_names[label], round(float(score), 6), corners, mask)


def as_text(image: epath.Path, objects: list[Row]) -> str:
    """The objects of an image as a few lines of text."""
    lines = [f'  {100 * each.score:5.1f}%  {each.name}  {_edges(each.box)}' for each in objects]
    return '\n'.join([str(image), *lines])


def _edges(box: list[float]) -> str:
    left, top, right, bottom = (f'{edge:.0f}' for edge in box)
    return f'{left}..{right} x {top}..{bottom} px'


def as_json(image: epath.Path, objects: list[Row]) -> str:
    """The objects of an image as one JSON line."""
    return json.dumps({'image': str(image), 'objects': [each._asdict() for each in objects]})


def as_csv(image: epath.Path, objects: list[Row]) -> str:
    """The objects of an image as rows of CSV, one for each; '' for none."""
    return csv_rows([(image, rank, *each[:3], *each.box) for rank, each in enumerate(objects, 1)])


class Drawings:
    """Writes drawings into a directory: DIR/NAME.objects.png of each image NAME."""

    def __init__(self, directory: epath.Path):
        """Makes the directory; InputError if it cannot."""
        self._directory = directory
        self._names: set[str] = set()
        try:
            directory.mkdir(parents=True, exist_ok=True)
        except file_errors() as error:
            raise failure(f'--draw={directory} cannot be written to: {why(error)}', error) from error

    def write(self, found: Found, class_names: tuple[str, ...], least_score: float) -> None:
        """Draws the objects that are likely enough; InputError if the file cannot be written."""
        path = self._directory / self._name(epath.Path(found.image).stem)
        drawn = Image.fromarray(draw_found(found.pixels, found.objects, class_names, least_score))
        try:
            with replacing(path) as draft:
                drawn.save(draft, 'PNG')
        except file_errors() as error:
            raise failure(f'{path} cannot be written: {why(error)}', error) from error

    def _name(self, stem: str) -> str:
        """One that no other image of this command has, as cat.jpg and other/cat.png would."""
        others = (f'{stem}-{number}' for number in itertools.count(2))
        name = next(name for name in itertools.chain([stem], others) if name not in self._names)
        self._names.add(name)
        return f'{name}.objects.png'
