"""Images with boxes and masks in the form of COCO: `instances_*.json` and a folder of images.

https://cocodataset.org/#format-data has the form, which many other sets have, too. Masks are polygons or run
lengths, which pycocotools reads.
"""

import json
from collections import Counter, defaultdict
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
from etils import epath
from pycocotools import mask as mask_lib

from nfnets.errors import InputError
from nfnets.files import failure, file_errors

_BEYOND = 1.0  # px that a box may leave its image by: files round.


class Annotated(NamedTuple):
    """The objects of one image, and those alone that have an area.

    Attributes:
      image_id: as in the file.
      file_name: below the folder of images.
      height: px.
      width: px.
      boxes: float32 [G, 4], left, top, right, bottom, px.
      labels: int32 [G], classes from 0.
      crowd: bool [G].
      segmentations: of each object, as in the file.
    """

    image_id: int
    file_name: str
    height: int
    width: int
    boxes: np.ndarray
    labels: np.ndarray
    crowd: np.ndarray
    segmentations: tuple[Any, ...]

    def mask(self, index: int) -> np.ndarray:
        """Where an object is, bool [height, width]."""
        given = self.segmentations[index]
        if isinstance(given, list):
            given = mask_lib.merge(mask_lib.frPyObjects(given, self.height, self.width))
        elif isinstance(given['counts'], list):
            given = mask_lib.frPyObjects(given, self.height, self.width)
        return mask_lib.decode(given).astype(bool)


class CocoFile:
    """What `instances_*.json` says.

    Attributes:
      path: of the file.
      class_names: by label, in the order of the file's ids.
      category_ids: of each label.
      images: all, in the order of the file, with or without objects.
    """

    def __init__(self, path: epath.Path, folder: epath.Path):
        """Reads and checks the file; opens no image.

        Args:
          path: of the file.
          folder: of the images.

        Raises:
          InputError: the file cannot be read or is of another form; an id repeats; an annotation names no
            image or category of the file, or its box leaves its image; an image is missing.
        """
        self.path = path
        content = _read(path)
        categories = sorted(content['categories'], key=lambda category: category['id'])
        self._refuse_repeated('category', [category['id'] for category in categories])
        self.category_ids = tuple(category['id'] for category in categories)
        self.class_names = tuple(category['name'] for category in categories)
        self._refuse_repeated('image', [image['id'] for image in content['images']])
        self._refuse_repeated('annotation', [each['id'] for each in content['annotations']])
        labels = {identity: label for label, identity in enumerate(self.category_ids)}
        sizes = {image['id']: image for image in content['images']}
        by_image = defaultdict(list)
        for each in content['annotations']:
            self._check(each, sizes, labels)
            by_image[each['image_id']].append(each)
        self.images = [_annotated(image, by_image[image['id']], labels) for image in content['images']]
        self._refuse_missing(folder)

    def _refuse_repeated(self, kind: str, ids: Iterable[int]) -> None:
        identity, count = next(iter(Counter(ids).most_common(1)), (0, 0))
        if count > 1:
            raise InputError(f'{self.path}: {count} {kind} entries have the id {identity}; it must be of one')

    def _check(self, each: dict[str, Any], sizes: dict[int, Any], labels: dict[int, int]) -> None:
        name = f'{self.path}: annotation {each["id"]}'
        if each['image_id'] not in sizes:
            raise InputError(f'{name} is of the image {each["image_id"]}, which the file does not have')
        if each['category_id'] not in labels:
            allowed = ', '.join(map(str, labels))
            raise InputError(f'{name} is of the category {each["category_id"]}; there are {allowed}')
        image = sizes[each['image_id']]
        x, y, width, height = each['bbox']
        is_inside = min(x, y) >= -_BEYOND and (
            x + width <= image['width'] + _BEYOND and y + height <= image['height'] + _BEYOND
        )
        if not is_inside or min(width, height) < 0:
            raise InputError(
                f'{name} has the box {each["bbox"]} (left, top, width, height), which leaves its image of '
                f'{image["width"]} x {image["height"]} px'
            )

    def _refuse_missing(self, folder: epath.Path) -> None:
        try:
            there = {path.name for path in folder.iterdir()}
        except file_errors() as error:
            raise failure(f'the folder of images {folder} cannot be read: {error}', error) from error
        missing = [image.file_name for image in self.images if image.file_name not in there]
        if missing:
            raise InputError(
                f'{folder} lacks {len(missing)} of the {len(self.images)} images of {self.path}, such as '
                f'{missing[0]}'
            )


def _read(path: epath.Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text())
    except file_errors(UnicodeDecodeError, json.JSONDecodeError) as error:
        raise failure(f'{path} cannot be read as JSON: {error}', error) from error
    parts = ('images', 'annotations', 'categories')
    lacking = [part for part in parts if not isinstance(content, dict) or part not in content]
    if lacking:
        raise InputError(f'{path} is not in the form of COCO: it lacks {", ".join(lacking)}')
    return content


def _annotated(image: dict[str, Any], annotations: list[dict[str, Any]], labels: dict[int, int]) -> Annotated:
    found = [each for each in annotations if min(each['bbox'][2:]) > 0]
    corners = [(x, y, x + width, y + height) for x, y, width, height in (each['bbox'] for each in found)]
    most = [image['width'], image['height']] * 2
    return Annotated(
        image['id'],
        image['file_name'],
        image['height'],
        image['width'],
        np.clip(np.array(corners, np.float32).reshape(-1, 4), 0, most).astype(np.float32),
        np.array([labels[each['category_id']] for each in found], np.int32),
        np.array([bool(each.get('iscrowd', 0)) for each in found], bool),
        tuple(each['segmentation'] for each in found),
    )
