"""Objects drawn on their image: boxes, masks, and captions, in a color for each class."""

import colorsys
from collections.abc import Iterable, Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from nfnets.detection.coco import Annotated
from nfnets.detection.image_detections import ImageDetections

_LEAST_SIDE = 512  # px of a drawing: smaller images are enlarged, so that captions can be read.
_OPACITY = 0.45  # Of masks.
_GOLDEN = 0.618034  # Steps of it around the circle of hues keep neighbors apart.
_DARK = 140  # Luma below which text is white.


def draw_found(
    pixels: np.ndarray, found: ImageDetections, class_names: Sequence[str], least_score: float = 0.0
) -> np.ndarray:
    """Draws what was found, with names and scores, the likeliest on top; see `draw`."""
    shown = [i for i in reversed(range(len(found.scores))) if found.scores[i] >= least_score]
    captions = [f'{class_names[found.labels[i]]} {100 * found.scores[i]:.0f}%' for i in shown]
    masks = (found.mask(i) for i in shown)
    return draw(pixels, found.boxes[shown], found.labels[shown], captions, masks)


def draw_true(pixels: np.ndarray, image: Annotated, class_names: Sequence[str]) -> np.ndarray:
    """Draws the true objects, with names; see `draw`."""
    captions = name_objects(image.labels, image.crowd, class_names)
    return draw(pixels, image.boxes, image.labels, captions, map(image.mask, range(len(captions))))


def name_objects(labels: np.ndarray, crowd: np.ndarray, class_names: Sequence[str]) -> list[str]:
    """Captions of true objects, int [G] and bool [G]."""
    names = [class_names[label] for label in labels]
    return [f'{name} (crowd)' if is_crowd else name for name, is_crowd in zip(names, crowd, strict=True)]


def draw(
    pixels: np.ndarray,
    boxes: np.ndarray,
    labels: np.ndarray,
    captions: Sequence[str],
    masks: Iterable[np.ndarray],
) -> np.ndarray:
    """Draws objects on an image, the last on top.

    Args:
      pixels: uint8 [H, W, 3].
      boxes: float [G, 4], left, top, right, bottom, px.
      labels: int [G], which choose colors.
      captions: G.
      masks: of each, bool [H, W].

    Returns:
      uint8 [k H, k W, 3], enlarged k times, so that the longer side has some 512 px at least.
    """
    factor = max(1, -(-_LEAST_SIDE // max(pixels.shape[:2])))
    colors = [color(int(label)) for label in labels]
    tinted = pixels.astype(np.float32)
    for mask, fill in zip(masks, colors, strict=True):
        tinted[mask] += _OPACITY * (np.array(fill, np.float32) - tinted[mask])
    enlarged = tinted.round().astype(np.uint8).repeat(factor, axis=0).repeat(factor, axis=1)
    image = Image.fromarray(enlarged)
    pen = ImageDraw.Draw(image)
    width = max(2, max(image.size) // 300)
    font = ImageFont.load_default(max(12, max(image.size) // 40))
    for box, line in zip(boxes * factor, colors, strict=True):
        left, top, right, bottom = box.tolist()
        pen.rectangle((left, top, max(left, right - 1), max(top, bottom - 1)), outline=line, width=width)
    for box, fill, caption in zip(boxes * factor, colors, captions, strict=True):  # On all boxes.
        _write(pen, caption, box, fill, font, image.size)
    return np.asarray(image)


def color(label: int) -> tuple[int, int, int]:
    """The color of a class, levels of red, green and blue."""
    hue, value = (label * _GOLDEN) % 1.0, (1.0, 0.75)[label % 2]
    red, green, blue = (round(255 * level) for level in colorsys.hsv_to_rgb(hue, 0.8, value))
    return red, green, blue


def _write(
    pen: ImageDraw.ImageDraw,
    caption: str,
    box: np.ndarray,
    fill: tuple[int, int, int],
    font: ImageFont.FreeTypeFont | ImageFont.ImageFont,
    size: tuple[int, int],
) -> None:
    """A caption above its box, or where that is outside of the image, inside of it."""
    left, top, right, bottom = pen.textbbox((0, 0), caption, font)
    width, height = right - left + 4, bottom - top + 4
    x = max(0.0, min(float(box[0]), size[0] - width))
    y = float(box[1]) - height if box[1] >= height else max(0.0, min(float(box[1]), size[1] - height))
    pen.rectangle((x, y, x + width, y + height), fill=fill)
    luma = np.dot(fill, (0.299, 0.587, 0.114))
    pen.text((x + 2 - left, y + 2 - top), caption, font=font, fill='white' if luma < _DARK else 'black')
