"""What a file in the form of COCO must hold, so that what reads it need not ask again.

https://cocodataset.org/#format-data has the form. pycocotools asks nothing: of run lengths that do not fill
their image it decodes memory that nobody wrote.
"""

import json
from collections import Counter
from typing import Any

from etils import epath
from pycocotools import mask as mask_lib

from nfnets.errors import InputError
from nfnets.files import failure, file_errors

_MASK = (list, dict)  # Polygons, or run lengths.
_FORM: dict[str, dict[str, Any]] = {
    'images': {'id': int, 'file_name': str, 'height': int, 'width': int},
    'categories': {'id': int, 'name': str},
    'annotations': {'id': int, 'image_id': int, 'category_id': int, 'bbox': list, 'segmentation': _MASK},
}
_NUMBER = (int, float)
_BEYOND = 1.0  # px that a box may leave its image by, and a mask its box: files round.


def read_coco(path: epath.Path) -> dict[str, Any]:
    """The content of `instances_*.json`, checked.

    Raises:
      InputError: the file cannot be read or is of another form; an id repeats; an annotation names no image
        or category of the file, its box leaves its image, or its mask its box.
      TrainingStopped: its bucket does not answer now.
    """
    try:
        content = json.loads(path.read_text())
    except file_errors(UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise failure(f'{path} cannot be read as JSON: {error}', error) from error
    try:
        _check(content)
    except InputError as error:
        raise InputError(f'{path}: {error}') from error
    return content


def has_area(annotation: dict[str, Any]) -> bool:
    """Whether an annotation is of an object that can be found: its box is not empty."""
    return min(annotation['bbox'][2:]) > 0


def _check(content: Any) -> None:
    lacking = [part for part in _FORM if not isinstance(content, dict) or part not in content]
    if lacking:
        raise InputError(f'not in the form of COCO: it lacks {", ".join(lacking)}')
    for part, fields in _FORM.items():
        _check_fields(part, content[part], fields)
    for image in content['images']:
        if min(image['height'], image['width']) < 1:
            raise InputError(f'image {image["id"]} is of {_size(image)}')
    categories = {each['id'] for each in content['categories']}
    images = {each['id']: each for each in content['images']}
    for each in content['annotations']:
        problem = _problem(each, images, categories)
        if problem is not None:
            raise InputError(f'annotation {each["id"]} {problem}')


def _check_fields(part: str, entries: Any, fields: dict[str, Any]) -> None:
    """Whether all entries have the fields that are needed, and ids that do not repeat."""
    if not isinstance(entries, list):
        raise InputError(f'not in the form of COCO: {part} are no list')
    for place, entry in enumerate(entries):
        for name, kind in fields.items():
            if not isinstance(entry, dict) or not isinstance(entry.get(name), kind):
                raise InputError(f'not in the form of COCO: entry {place} of {part} has no usable {name}')
    identity, count = next(iter(Counter(entry['id'] for entry in entries).most_common(1)), (0, 0))
    if count > 1:
        raise InputError(f'{count} of the {part} have the id {identity}; it must be of one')


def _problem(each: dict[str, Any], images: dict[int, Any], categories: set[int]) -> str | None:
    """What is wrong with an annotation, if anything."""
    if each['image_id'] not in images:
        return f'is of the image {each["image_id"]}, which the file does not have'
    if each['category_id'] not in categories:
        allowed = ', '.join(map(str, sorted(categories)))
        return f'is of the category {each["category_id"]}; there are {allowed}'
    image, box = images[each['image_id']], each['bbox']
    if len(box) != 4 or not all(isinstance(number, _NUMBER) for number in box):
        return f'has the box {box}; expected 4 numbers: left, top, width, height'
    whole = [0, 0, image['width'], image['height']]
    if not _lies_in(box, whole) or not min(box[2:]) >= 0:
        return f'has the box {box} (left, top, width, height), which leaves its image of {_size(image)}'
    return _problem_of_mask(each['segmentation'], box, image) if has_area(each) else None


def _problem_of_mask(mask: Any, box: list[float], image: dict[str, Any]) -> str | None:
    is_polygons = isinstance(mask, list)
    if is_polygons and not (mask and all(_is_polygon(polygon) for polygon in mask)):
        return 'has no usable mask: expected polygons of at least 3 points, or run lengths'
    if not is_polygons and not _fill(mask, image):
        return f'has run lengths that do not fill its image of {_size(image)}'
    if is_polygons:
        xs, ys = ([x for polygon in mask for x in polygon[start::2]] for start in (0, 1))
        bounds = [min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)]
    else:
        bounds = mask_lib.toBbox(as_run_lengths(mask, image['height'], image['width'])).tolist()
    if not _lies_in(bounds, box):
        shown = [round(number, 2) for number in bounds]
        return f'has a mask in {shown} (left, top, width, height), which leaves its box {box}'
    return None


def as_run_lengths(mask: Any, height: int, width: int) -> dict[str, Any]:
    """A mask as pycocotools takes it everywhere: packed run lengths, of polygons and of plain ones, too."""
    if isinstance(mask, list):
        return mask_lib.merge(mask_lib.frPyObjects(mask, height, width))
    if isinstance(mask['counts'], list):
        return mask_lib.frPyObjects(mask, height, width)
    return mask


def _is_polygon(points: Any) -> bool:
    is_list = isinstance(points, list) and len(points) >= 6 and len(points) % 2 == 0
    return is_list and all(isinstance(number, _NUMBER) for number in points)


def _fill(mask: dict[str, Any], image: dict[str, Any]) -> bool:
    """Whether run lengths are of as many px as the image has."""
    counts = mask.get('counts')
    if isinstance(counts, str):
        counts = _unpacked(counts)
    if not isinstance(counts, list) or not all(isinstance(count, int) and count >= 0 for count in counts):
        return False
    size = [image['height'], image['width']]
    return mask.get('size') == size and sum(counts) == size[0] * size[1]


def _unpacked(packed: str) -> list[int]:
    """Run lengths, of which pycocotools packs 5 bits a character, from the fourth on as differences."""
    counts: list[int] = []
    bits = value = 0
    for character in packed:
        code = ord(character) - ord('0')
        value |= (code & 0x1F) << bits
        bits += 5
        if not code & 0x20:
            value -= (code & 0x10) << (bits - 4)  # The sign.
            counts.append(value + (counts[-2] if len(counts) > 2 else 0))
            bits, value = 0, 0
    return counts


def _lies_in(box: list[float], outer: list[float]) -> bool:
    """Whether a box, left, top, width, height, lies in another, but for what files round."""
    return all(
        box[axis] >= outer[axis] - _BEYOND
        and box[axis] + box[axis + 2] <= outer[axis] + outer[axis + 2] + _BEYOND
        for axis in (0, 1)
    )


def _size(image: dict[str, Any]) -> str:
    return f'{image["width"]} x {image["height"]} px'
