"""Makes a set of scenes in the form of COCO: garments and handwritten digits on photographs.

    apt-get install dataset-fashion-mnist
    python scripts/experiments/scenes.py DATA

Fashion-MNIST's garments and scikit-learn's digits, 20 classes, tinted, at random places and of 12 to 64 px,
lie on crops of scikit-learn's two photographs, 128 px. Later ones hide earlier ones: masks are what is seen
of each, and none is hidden by more than half. The 500 scenes of `val` are made of garments, digits and parts
of the photographs that the 5,000 of `train` have none of. The same seed gives the same set.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from pieces import CLASSES, GARMENTS, Pieces, load_pieces
from PIL import Image
from pycocotools import mask as mask_lib
from tqdm import tqdm

from nfnets.commands.command_line import Parser, run
from nfnets.errors import InputError
from nfnets.files import replace_file

_SIDE = 128  # px of a scene.
_LEAST, _MOST = 12, 64  # px of a piece's longer side.
_PIECES, _SHARE = 8, 0.6  # That are laid on a scene: up to so many, each with this probability.
_HIDDEN = 0.5  # Fraction of a piece that later ones may hide.
_PLACES = 10  # Tried for a piece that would hide too much, before it is left out.
_CLEAR = 32  # Level below which a piece lets the photograph through.
_DARKEST = 0.3  # Of a piece, as a fraction of its tint.
_QUALITY = 95  # Of JPEG; colors are not subsampled, so that none runs into its surroundings.


class Thing(NamedTuple):
    """A piece on a scene.

    Attributes:
      label: of `CLASSES`.
      whole: where it lies, bool [128, 128].
      seen: what is seen of it, alike.
    """

    label: int
    whole: np.ndarray
    seen: np.ndarray


def make_scene(pieces: Pieces, rng: np.random.Generator) -> tuple[np.ndarray, list[Thing]]:
    """A scene, uint8 [128, 128, 3], and what lies on it, the lowest first."""
    scene = _background(pieces, rng)
    things: list[Thing] = []
    for _ in range(rng.binomial(_PIECES, _SHARE)):
        piece, label = pieces.draw(rng)
        levels, tint = _resized(piece, rng), rng.uniform(0.2, 1.0, 3)
        tint /= tint.max()  # Bright in one color at least.
        for _ in range(_PLACES):
            placed = _placed(levels, rng)
            whole = placed >= _CLEAR
            below = [thing._replace(seen=thing.seen & ~whole) for thing in things]
            if all(thing.seen.sum() >= (1 - _HIDDEN) * thing.whole.sum() for thing in below):
                things = [*below, Thing(label, whole, whole)]
                shades = _DARKEST + (1 - _DARKEST) / 255 * placed[whole]
                scene[whole] = np.round(255 * shades[:, None] * tint)
                break
    return scene, things


def _placed(levels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A piece at a random place of a black scene, uint8 [128, 128]."""
    before = [int(rng.integers(_SIDE - side + 1)) for side in levels.shape]
    pairs = [(first, _SIDE - first - side) for first, side in zip(before, levels.shape, strict=True)]
    return np.pad(levels, pairs)


def _background(pieces: Pieces, rng: np.random.Generator) -> np.ndarray:
    """A square part of a photograph, perhaps mirrored, at the size of a scene."""
    photo = pieces.photographs[rng.integers(len(pieces.photographs))]
    side = int(rng.integers(_SIDE // 2, min(photo.shape[:2]) + 1))
    top, left = (int(rng.integers(length - side + 1)) for length in photo.shape[:2])
    part = Image.fromarray(photo).crop((left, top, left + side, top + side))
    scene = np.asarray(part.resize((_SIDE, _SIDE), Image.Resampling.BICUBIC))
    return scene[:, :: rng.choice((1, -1))].copy()


def _resized(piece: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A piece without its margins at a random size; uint8 [H, W]."""
    tight = _without_margins(piece)
    framed = Image.fromarray(np.pad(tight, 1))  # So that it fades out at its edges, too.
    scale = rng.uniform(_LEAST, _MOST) / (max(tight.shape) + 1)
    size = [max(1, round(side * scale)) for side in framed.size]
    return _without_margins(np.asarray(framed.resize(size, Image.Resampling.BICUBIC)))


def _without_margins(levels: np.ndarray) -> np.ndarray:
    rows, columns = (np.flatnonzero((levels >= _CLEAR).any(axis=axis)) for axis in (1, 0))
    return levels[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def write_split(target: Path, split: str, count: int, pieces: Pieces, seed: Sequence[int]) -> int:
    """Writes images, then what is on them; returns how many objects there are."""
    (target / split).mkdir(parents=True, exist_ok=True)
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number in tqdm(range(count), desc=split, unit='scene'):
        scene, things = make_scene(pieces, np.random.default_rng((*seed, number)))
        name = f'{number:06}.jpg'
        Image.fromarray(scene).save(target / split / name, quality=_QUALITY, subsampling=0)
        images.append({'id': number + 1, 'file_name': name, 'height': _SIDE, 'width': _SIDE})
        annotations += [
            _annotation(thing, number + 1, len(annotations) + i) for i, thing in enumerate(things, 1)
        ]
    content = {
        'info': {'description': f'Garments and digits on photographs, made from the seed {seed[0]}'},
        'categories': [{'id': label, 'name': name} for label, name in enumerate(CLASSES, 1)],
        'images': images,
        'annotations': annotations,
    }
    replace_file(_annotations(target, split), json.dumps(content))
    return len(annotations)


def _annotation(thing: Thing, image: int, identity: int) -> dict[str, Any]:
    packed = mask_lib.encode(np.asfortranarray(thing.seen, np.uint8))
    return {
        'id': identity,
        'image_id': image,
        'category_id': thing.label + 1,
        'bbox': mask_lib.toBbox(packed).tolist(),
        'area': int(thing.seen.sum()),
        'iscrowd': 0,
        'segmentation': {'size': packed['size'], 'counts': packed['counts'].decode()},
    }


def _annotations(target: Path, split: str) -> Path:
    return target / 'annotations' / f'instances_{split}.json'


def main(argv: Sequence[str]) -> None:
    """Makes both splits.

    Raises:
      InputError: pieces are missing, or the directory holds a set already.
    """
    parser = Parser(__doc__)
    parser.add_argument('target', type=Path, help='directory of the set')
    parser.add_argument('--garments', type=Path, default=GARMENTS, help="Fashion-MNIST's files [%(default)s]")
    parser.add_argument('--train', type=int, default=5000, help='scenes to train on [%(default)s]')
    parser.add_argument('--val', type=int, default=500, help='scenes to evaluate on [%(default)s]')
    parser.add_argument('--seed', type=int, default=0, help='0 or more [%(default)s]')
    arguments = parser.parse_args(argv)
    target, counts = arguments.target, {'train': arguments.train, 'val': arguments.val}
    if min(*counts.values()) < 1 or arguments.seed < 0:
        raise InputError(
            f'--train, --val and --seed are {arguments.train}, {arguments.val} and {arguments.seed}'
        )
    for split in counts:
        if _annotations(target, split).exists():
            raise InputError(f'{target} holds a set already: {_annotations(target, split)}; remove it first')
    pieces = {split: load_pieces(arguments.garments, split) for split in counts}
    (target / 'annotations').mkdir(parents=True, exist_ok=True)
    for place, (split, count) in enumerate(counts.items()):
        objects = write_split(target, split, count, pieces[split], (arguments.seed, place))
        print(f'{target / split}: {count:,} scenes, {objects:,} objects')


if __name__ == '__main__':
    run(main)
