"""Files in the form of COCO: what they say, masks against polygons drawn by Pillow, and what is wrong."""

import json

import numpy as np
import pytest
from etils import epath
from PIL import Image, ImageDraw
from pycocotools import mask as mask_lib

from nfnets.detection import coco_form
from nfnets.detection.coco import CocoFile
from nfnets.errors import InputError

TRIANGLE = [[4.0, 2.0, 36.0, 10.0, 12.0, 28.0]]


def _annotation(identity, image=10, category=7, box=(4, 2, 32, 26), segmentation=TRIANGLE, crowd=0):
    return {
        'id': identity,
        'image_id': image,
        'category_id': category,
        'bbox': list(box),
        'segmentation': segmentation,
        'iscrowd': crowd,
        'area': 1.0,
    }


def _content():
    run_lengths = {'size': [30, 40], 'counts': [30 * 5, 30 * 10, 30 * 25]}  # By column: 5 without, 10 with.
    return {
        'categories': [{'id': 9, 'name': 'coat'}, {'id': 7, 'name': 'bag'}],
        'images': [
            {'id': 10, 'file_name': 'a.png', 'height': 30, 'width': 40},
            {'id': 3, 'file_name': 'b.png', 'height': 20, 'width': 20},
        ],
        'annotations': [
            _annotation(1),
            _annotation(2, category=9, box=(5, 0, 10, 30), segmentation=run_lengths, crowd=1),
            _annotation(4, box=(5, 5, 0, 3)),  # Without an area: no object.
        ],
    }


@pytest.fixture
def write(tmp_path):
    for name in ('a.png', 'b.png'):
        Image.new('RGB', (8, 8)).save(tmp_path / name)

    def run(content):
        path = epath.Path(tmp_path) / 'instances.json'
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        return CocoFile(path, epath.Path(tmp_path))

    return run


def test_a_file_gives_classes_by_id_and_each_image_with_its_objects(write):
    found = write(_content())
    assert found.class_names == ('bag', 'coat')
    assert found.category_ids == (7, 9)
    first, second = found.images
    assert (first.image_id, first.file_name, first.height, first.width) == (10, 'a.png', 30, 40)
    np.testing.assert_array_equal(first.boxes, [[4, 2, 36, 28], [5, 0, 15, 30]])
    np.testing.assert_array_equal(first.labels, [0, 1])
    np.testing.assert_array_equal(first.crowd, [False, True])
    assert second.boxes.shape == (0, 4)
    assert second.labels.shape == (0,)


def test_masks_are_those_of_polygons_run_lengths_and_packed_run_lengths(write):
    content = _content()
    image = write(content).images[0]
    drawn = Image.new('1', (400, 300))
    ImageDraw.Draw(drawn).polygon([10 * x for x in TRIANGLE[0]], fill=1)
    share = np.asarray(drawn, float).reshape(30, 10, 40, 10).mean(axis=(1, 3))
    is_clear = (share < 0.1) | (share > 0.9)
    np.testing.assert_array_equal(image.mask(0)[is_clear], (share > 0.5)[is_clear])
    columns = np.zeros((30, 40), bool)
    columns[:, 5:15] = True
    np.testing.assert_array_equal(image.mask(1), columns)
    packed = mask_lib.encode(np.asfortranarray(columns.astype(np.uint8)))
    content['annotations'][1]['segmentation'] = {**packed, 'counts': packed['counts'].decode()}
    np.testing.assert_array_equal(write(content).images[0].mask(1), columns)


def _run_lengths(*counts):
    return {'size': [30, 40], 'counts': list(counts)}


def test_packed_run_lengths_are_unpacked_as_pycocotools_packs_them():
    rng = np.random.default_rng(0)
    for share in (0.0, 0.02, 0.5, 1.0):
        mask = np.asfortranarray(rng.uniform(size=(70, 90)) < share, np.uint8)
        flat = np.concatenate([[0], mask.ravel('F'), [2]])  # The first run is of zeros.
        expected = np.diff(np.flatnonzero(np.diff(flat)), prepend=0)
        counts = coco_form._unpacked(mask_lib.encode(mask)['counts'].decode())
        assert counts == expected.tolist()


def test_the_area_is_the_files_or_else_the_masks(write):
    content = _content()
    del content['annotations'][1]['area']
    np.testing.assert_array_equal(write(content).images[0].areas, [1.0, 300.0])


def test_images_may_lie_in_folders_of_the_folder(write, tmp_path):
    (tmp_path / 'a').mkdir()
    (tmp_path / 'b.png').rename(tmp_path / 'a' / 'b.png')
    with pytest.raises(InputError, match=r'such as b\.png'):
        write(_content())
    assert write(_changed('images', 1, file_name='a/b.png')).images[1].file_name == 'a/b.png'


def _changed(part, index, **values):
    content = _content()
    content[part][index].update(values)
    return content


@pytest.mark.parametrize(
    ('content', 'said'),
    [
        ('{"images": [', 'cannot be read as JSON'),
        ('[]', 'lacks images, categories, annotations'),
        ('{"images": [], "annotations": []}', 'lacks categories'),
        (_changed('annotations', 1, id=1), '2 of the annotations have the id 1'),
        (_changed('images', 1, id=10), '2 of the images have the id 10'),
        (_changed('categories', 1, id=9), '2 of the categories have the id 9'),
        (_changed('annotations', 0, image_id=5), 'annotation 1 is of the image 5'),
        (_changed('annotations', 0, category_id=5), 'annotation 1 is of the category 5; there are 7, 9'),
        (_changed('annotations', 0, bbox=[4, 2, 38, 26]), r'leaves its image of 40 x 30 px'),
        (_changed('annotations', 0, bbox=[-3, 2, 8, 6]), r'leaves its image'),
        (_changed('annotations', 0, bbox=[4, 2, float('nan'), 26]), r'leaves its image'),
        (_changed('annotations', 0, bbox=[4, 2, 32]), r'annotation 1 has the box \[4, 2, 32\]; expected 4'),
        (_changed('annotations', 0, bbox='all'), 'entry 0 of annotations has no usable bbox'),
        (_changed('annotations', 0, bbox=[12, 2, 24, 26]), r'1 has a mask in \[4.0, .* its box \[12'),
        (_changed('annotations', 1, bbox=[5, 0, 8, 30]), r'has a mask in \[5.0, 0.0, 10.0, 30.0\]'),
        (_changed('annotations', 0, segmentation=[]), 'annotation 1 has no usable mask: expected polygons'),
        (_changed('annotations', 0, segmentation=[[1, 2, 3, 4]]), 'has no usable mask: expected polygons'),
        (_changed('annotations', 1, segmentation=_run_lengths(150, 300)), 'do not fill its image of 40 x 30'),
        (_changed('annotations', 1, segmentation=_run_lengths(150, -1, 1051)), 'do not fill its image'),
        (_changed('annotations', 1, segmentation=_run_lengths() | {'counts': 'abc'}), 'do not fill'),
        (_changed('annotations', 1, segmentation=_run_lengths(1200) | {'size': [40, 30]}), 'do not fill'),
        (_changed('images', 0, height='30'), 'entry 0 of images has no usable height'),
        (_changed('images', 0, height=0), 'image 10 is of 40 x 0 px'),
        (json.dumps(_content() | {'images': {}}), 'images are no list'),
        (_changed('images', 1, file_name='c.png'), 'lacks 1 of the 2 images of .*, such as c.png'),
    ],
)
def test_what_is_wrong_is_said_in_one_line(write, content, said):
    with pytest.raises(InputError, match=said) as raised:
        write(content)
    assert '\n' not in str(raised.value)
    assert 'instances.json' in str(raised.value)
