"""Images with boxes and masks in the form of COCO: `instances_*.json` and a folder of images.

Many other sets have that form, too. Masks are polygons or run lengths, which pycocotools reads.
"""

from collections import defaultdict
from typing import Any, NamedTuple

import numpy as np
from etils import epath
from pycocotools import mask as mask_lib

from nfnets.detection.coco_form import as_run_lengths, has_area, read_coco
from nfnets.errors import InputError
from nfnets.files import failure, file_errors


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
      areas: float64 [G], px, as in the file; of the mask where it does not say.
      segmentations: of each object, as in the file.
    """

    image_id: int
    file_name: str
    height: int
    width: int
    boxes: np.ndarray
    labels: np.ndarray
    crowd: np.ndarray
    areas: np.ndarray
    segmentations: tuple[Any, ...]

    @property
    def size(self) -> tuple[int, int]:
        """Height and width, px."""
        return self.height, self.width

    def run_lengths(self, index: int) -> dict[str, Any]:
        """Where an object is, as pycocotools takes it."""
        return as_run_lengths(self.segmentations[index], self.height, self.width)

    def mask(self, index: int) -> np.ndarray:
        """Where an object is, bool [height, width]."""
        return mask_lib.decode(self.run_lengths(index)).astype(bool)


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
          InputError: the file is not as `read_coco` wants it, or an image is missing.
          TrainingStopped: its bucket does not answer now.
        """
        self.path = path
        content = read_coco(path)
        categories = sorted(content['categories'], key=lambda category: category['id'])
        self.category_ids = tuple(category['id'] for category in categories)
        self.class_names = tuple(category['name'] for category in categories)
        labels = {identity: label for label, identity in enumerate(self.category_ids)}
        by_image = defaultdict(list)
        for each in filter(has_area, content['annotations']):
            by_image[each['image_id']].append(each)
        self.images = [_annotated(image, by_image[image['id']], labels) for image in content['images']]
        self._refuse_missing(folder)

    def _refuse_missing(self, folder: epath.Path) -> None:
        folders = {(folder / image.file_name).parent for image in self.images}
        try:
            there = {path for each in (folder, *sorted(folders - {folder})) for path in each.iterdir()}
        except file_errors() as error:
            raise failure(f'the folder of images {folder} cannot be read: {error}', error) from error
        missing = [image.file_name for image in self.images if folder / image.file_name not in there]
        if missing:
            raise InputError(
                f'{folder} lacks {len(missing)} of the {len(self.images)} images of {self.path}, such as '
                f'{missing[0]}'
            )


def _annotated(image: dict[str, Any], found: list[dict[str, Any]], labels: dict[int, int]) -> Annotated:
    height, width = image['height'], image['width']
    corners = [(x, y, x + wide, y + tall) for x, y, wide, tall in (each['bbox'] for each in found)]
    return Annotated(
        image['id'],
        image['file_name'],
        height,
        width,
        np.clip(np.array(corners, np.float32).reshape(-1, 4), 0, [width, height] * 2).astype(np.float32),
        np.array([labels[each['category_id']] for each in found], np.int32),
        np.array([bool(each.get('iscrowd', 0)) for each in found], bool),
        np.array([_area(each, height, width) for each in found], np.float64),
        tuple(each['segmentation'] for each in found),
    )


def _area(annotation: dict[str, Any], height: int, width: int) -> float:
    given = annotation.get('area')
    if isinstance(given, int | float):
        return float(given)
    return float(mask_lib.area(as_run_lengths(annotation['segmentation'], height, width)))
