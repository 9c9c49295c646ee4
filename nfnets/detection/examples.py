"""The images of a set in the form of COCO, as encoded bytes, with their objects."""

import io
from collections.abc import Callable

import numpy as np
from etils import epath
from PIL import Image, UnidentifiedImageError

from nfnets.data.ranges import start_range
from nfnets.data.source import NO_LABEL, Example, Source
from nfnets.detection.coco import Annotated, CocoFile
from nfnets.errors import InputError
from nfnets.files import as_path, failure, file_errors, why


class CocoExamples(Source):
    """The images DIR/SPLIT/* of DIR/annotations/instances_SPLIT.json.

    Attributes:
      class_names: by label, in the order of the file's ids.
      warnings: what may be wrong with the data, one line each.
      file: what the file says.
    """

    label_shape = (1,)  # The pipeline's labels are of whole images: none has one.

    def __init__(self, directory: epath.PathLike, split: str):
        """Reads and checks the file; opens no image.

        Args:
          directory: DIR.
          split: such as 'train2017'.

        Raises:
          InputError: the file cannot be read or used, see `CocoFile`, or an image is missing.
          TrainingStopped: its bucket does not answer now.
        """
        path = as_path(directory)
        self._folder = path / split
        self.file = CocoFile(path / 'annotations' / f'instances_{split}.json', self._folder)
        self.class_names = self.file.class_names
        if not self.file.images or not self.class_names:
            raise InputError(f'{self.file.path} has no {"images" if self.class_names else "categories"}')
        self.warnings = tuple(self._warnings())

    def _warnings(self) -> list[str]:
        empty = sum(not len(image.boxes) for image in self.file.images)
        share = f'{empty} of the {len(self)} images of {self.file.path} have no object'
        return [share] if 2 * empty > len(self) else []

    def __len__(self) -> int:
        return len(self.file.images)

    def annotated(self, index: int) -> Annotated:
        """The objects of one image."""
        return self.file.images[index]

    def read(self, index: int) -> Example:
        return self.start(index)()

    def start(self, index: int) -> Callable[[], Example]:
        """Begins to read an encoded image, and a label that says that it has none.

        What is returned raises OSError if it cannot be read, or has another size than the file says.
        """
        content = start_range(self._path(index), 0)

        def wait() -> Example:
            encoded = content()
            self._check_size(index, encoded)
            return encoded, np.array([NO_LABEL], np.int32)

        return wait

    def _check_size(self, index: int, encoded: bytes) -> None:
        try:
            with Image.open(io.BytesIO(encoded)) as image:  # Reads its head alone.
                found = image.size
        except (UnidentifiedImageError, Image.DecompressionBombError, SyntaxError, ValueError):
            return  # What decodes it says so.
        wanted = self.annotated(index)
        if found != (wanted.width, wanted.height):
            in_file = f'{wanted.width} x {wanted.height} in {self.file.path}'
            raise OSError(f'it has {found[0]} x {found[1]} px, and {in_file}')

    def pixels(self, index: int) -> np.ndarray:
        """An image as its boxes are meant, uint8 [height, width, 3]: turned by no EXIF, as in training.

        Raises:
          InputError: it cannot be read.
        """
        try:
            encoded, _ = self.read(index)
            with Image.open(io.BytesIO(encoded)) as image:
                return np.asarray(image.convert('RGB'))
        except file_errors(Image.DecompressionBombError, SyntaxError, ValueError) as error:
            raise failure(f'{self.describe(index)} cannot be read: {why(error)}', error) from error

    def _path(self, index: int) -> epath.Path:
        return self._folder / self.annotated(index).file_name

    def describe(self, index: int) -> str:
        return str(self._path(index))
