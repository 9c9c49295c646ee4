"""Writes small sets in the form of COCO."""

import json

import numpy as np
from PIL import Image

CLASSES = ('left', 'middle', 'right')


def run_lengths(mask):
    """Plain run lengths of a mask, counted column by column, as the format wants them."""
    counts, value = [0], 0
    for pixel in mask.ravel('F').tolist():
        if pixel != value:
            counts.append(0)
            value = pixel
        counts[-1] += 1
    return {'size': list(mask.shape), 'counts': counts}


def tight_box(mask):
    """[left, top, width, height] of a mask."""
    rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    left, top = int(columns[0]), int(rows[0])
    return [left, top, int(columns[-1]) + 1 - left, int(rows[-1]) + 1 - top]


def write_set(directory, split, images, class_names=CLASSES):
    """Writes images of [(pixels uint8 [H, W, 3], [(label, mask bool [H, W], is_crowd), ...]), ...].

    Ids of images and categories are 10, 20, ... in order, names 000.png, 001.png, ...
    """
    folder = directory / split
    folder.mkdir(parents=True)
    (directory / 'annotations').mkdir(exist_ok=True)
    content = {'images': [], 'annotations': []}
    content['categories'] = [{'id': 10 * k, 'name': name} for k, name in enumerate(class_names, 1)]
    for i, (pixels, objects) in enumerate(images):
        image = {'id': 10 * (i + 1), 'file_name': f'{i:03}.png'}
        Image.fromarray(pixels).save(folder / image['file_name'])
        content['images'].append(image | {'height': pixels.shape[0], 'width': pixels.shape[1]})
        for label, mask, is_crowd in objects:
            content['annotations'].append(
                {
                    'id': len(content['annotations']) + 1,  # pycocotools takes 0 for none.
                    'image_id': image['id'],
                    'category_id': 10 * (label + 1),
                    'bbox': tight_box(mask),
                    'segmentation': run_lengths(mask),
                    'area': int(mask.sum()),
                    'iscrowd': int(is_crowd),
                }
            )
    (directory / 'annotations' / f'instances_{split}.json').write_text(json.dumps(content))
    return directory
