"""Batches for detection: pixels against Pillow, and boxes and masks against the pixels of their objects."""

import json

import numpy as np
import pytest
from coco_sets import write_set
from PIL import Image

from nfnets.detection import batches as batches_lib
from nfnets.detection.examples import CocoExamples
from nfnets.detection.geometry import Placing, fit
from nfnets.detection.placed_objects import place_objects
from nfnets.errors import InputError

SIZE = 96
PADDING = (124, 116, 104)  # ImageNet's mean color.


def _ring(height, width, left, top, wide, tall):
    """A frame that is thicker at its left and its top, so that no mirror image is like it."""
    mask = np.zeros((height, width), bool)
    mask[top : top + tall, left : left + wide] = True
    mask[top + tall // 2 : top + tall - 4, left + wide // 2 : left + wide - 4] = False
    return mask


def _image(seed, classes=(0, 1, 2), crowds=()):
    """Objects of class 0 in red, 1 in green and 2 in blue alone, on black: pixels tell what is where."""
    rng = np.random.default_rng(seed)
    height, width = (int(side) for side in rng.integers(60, 140, 2))
    pixels, objects = np.zeros((height, width, 3), np.uint8), []
    for label in classes:
        wide, tall = (int(side) for side in rng.integers(24, 50, 2))
        left, top = int(rng.integers(0, width - wide + 1)), int(rng.integers(0, height - tall + 1))
        mask = _ring(height, width, left, top, wide, tall)
        pixels[mask, label] = 255
        objects.append((label, mask, label in crowds))
    return pixels, objects


@pytest.fixture(scope='module')
def examples(tmp_path_factory):
    images = [_image(seed) for seed in range(14)]
    images += [_image(14, classes=()), _image(15, crowds=(1,)), _image(16, classes=(2,))]
    directory = write_set(tmp_path_factory.mktemp('coco'), 'train', images)
    return CocoExamples(directory, 'train')


def _train(examples, **changed):
    settings = {'size': SIZE, 'scales': (0.5, 2.0), 'flip': True, 'most_objects': 4, 'mask_side': 24}
    settings |= {'seed': 3, 'position': 0, 'batch_size': 8, 'skip_broken': False}
    return batches_lib.train_batches(examples, **{**settings, **changed})


def _eval(examples, **changed):
    settings = {'size': SIZE, 'batch_size': 8, 'skip_broken': False}
    return batches_lib.eval_batches(examples, **{**settings, **changed})


def _take(batches, count):
    taken = [next(batches) for _ in range(count)]
    batches.close()
    return taken


def _images(batches):
    """Each image of some batches, as a dictionary of its parts."""
    return [{name: value[i] for name, value in b.items()} for b in batches for i in range(len(b['images']))]


def _assert_equal(some, others):
    for a, b in zip(some, others, strict=True):
        assert a.keys() == b.keys()
        for name in a:
            np.testing.assert_array_equal(a[name], b[name], strict=True)


@pytest.fixture
def set_of(tmp_path):
    return lambda *images: CocoExamples(write_set(tmp_path, 'train', images), 'train')


def test_batches_have_their_shapes_and_types(examples):
    (batch,) = _take(_train(examples), 1)
    assert {name: (value.shape, str(value.dtype)) for name, value in batch.items()} == {
        'images': ((8, SIZE, SIZE, 3), 'uint8'),
        'image_sizes': ((8, 2), 'float32'),
        'boxes': ((8, 4, 4), 'float32'),
        'labels': ((8, 4), 'int32'),
        'present': ((8, 4), 'bool'),
        'crowd': ((8, 4), 'bool'),
        'masks': ((8, 4, 24, 24), 'uint8'),
    }


def test_boxes_and_masks_are_where_the_pixels_of_their_objects_are(examples):
    seen = 0
    for image in _images(_take(_train(examples), 8)):
        tall, wide = image['image_sizes'].astype(int)
        padding = np.ones((SIZE, SIZE), bool)
        padding[:tall, :wide] = False
        assert np.all(image['images'][padding] == PADDING)
        planes = np.where(padding[..., None], 0, image['images'] / 255.0)
        found = {int(k): g for g, k in enumerate(image['labels']) if image['present'][g] or image['crowd'][g]}
        for label in range(3):
            rows, columns = (np.flatnonzero(planes[..., label].max(axis=a) > 0.5) for a in (1, 0))
            if label not in found:
                assert min(len(rows), len(columns)) <= 1
                continue
            box = image['boxes'][found[label]]
            if rows.size:  # Else less than a pixel is seen.
                expected = [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]
                np.testing.assert_allclose(box, expected, atol=1.01)
            if image['crowd'][found[label]]:
                continue
            x, y = (box[a] + (np.arange(24) + 0.5) / 24 * (box[a + 2] - box[a]) for a in (0, 1))
            values = planes[..., label][np.ix_(y.astype(int), x.astype(int))]
            is_clear = np.abs(values - 0.5) > 0.49
            mask = image['masks'][found[label]]
            np.testing.assert_array_equal(mask[is_clear], values[is_clear] > 0.5)
            seen += is_clear.mean() > 0.5
    assert seen > 100


def test_a_training_image_is_a_part_of_pillows_resized_one(set_of):
    photo = np.random.default_rng(0).integers(0, 256, (9, 12, 3), np.uint8)
    pixels = np.asarray(Image.fromarray(photo).resize((60, 45), Image.Resampling.BICUBIC))
    (batch,) = _take(_train(set_of((pixels, [])), size=48, scales=(1.5, 1.5), batch_size=4), 1)
    resized = np.asarray(Image.fromarray(pixels).resize((72, 54), Image.Resampling.BILINEAR), int)
    windows = np.lib.stride_tricks.sliding_window_view(resized, (48, 48, 3))[..., 0, :, :, :]
    offsets = set()
    for image in batch['images'].astype(int):
        distances = {
            (top, left, step): np.max(np.abs(windows[top, left][:, ::step] - image))
            for top in range(windows.shape[0])
            for left in range(windows.shape[1])
            for step in (1, -1)
        }
        best = min(distances, key=distances.get)
        assert distances[best] <= 1  # Pillow rounds after each direction.
        offsets.add(best)
    assert len(offsets) == 4


def test_an_epoch_has_every_image_once(examples):
    whole = [np.asarray(Image.open(examples.describe(i))) for i in range(len(examples))]
    assert len({pixels.tobytes() for pixels in whole}) == len(whole)
    unchanged = {'scales': (1.0, 1.0), 'flip': False, 'batch_size': 17}
    (batch,) = _take(_train(examples, **unchanged), 1)
    (evaluated,) = _take(iter(_eval(examples, batch_size=17)), 1)
    assert sorted(i.tobytes() for i in batch['images']) == sorted(i.tobytes() for i in evaluated['images'])


def test_resuming_from_a_position_gives_the_same_batches_bit_for_bit(examples):
    batches = _train(examples)
    for _ in range(3):
        next(batches)
    assert batches.position == 24
    _assert_equal(_take(batches, 2), _take(_train(examples, position=24), 2))


def test_an_image_lies_elsewhere_at_each_place_in_the_order_and_for_each_seed(set_of):
    one = set_of(_image(0))
    taken = [batch for seed in (3, 4) for batch in _take(_train(one, seed=seed, scales=(0.5, 1.0)), 2)]
    places = {image['boxes'].tobytes() for image in _images(taken)}
    assert 25 <= len(places) <= 32  # Of some hundred, at whole px.


def test_two_processes_share_the_batches_of_one(examples, as_process):
    whole = _take(_train(examples), 3)
    parts = []
    for k in range(2):
        as_process(k, 2)
        parts.append(_take(_train(examples), 3))
    joined = [{name: np.concatenate([a[name], b[name]]) for name in a} for a, b in zip(*parts, strict=True)]
    _assert_equal(joined, whole)


def test_crowds_are_marked_and_nothing_to_find(examples):
    images = [image for image in _images(_take(_train(examples), 8)) if image['crowd'].any()]
    assert images
    for image in images:
        assert not np.any(image['crowd'] & image['present'])
        assert set(image['labels'][image['crowd']]) == {1}
        assert image['boxes'][image['crowd']].any()


def test_what_there_is_no_room_for_is_counted_and_crowds_and_small_objects_go_first(set_of):
    height, width = 64, 96
    objects = [
        (0, _ring(height, width, 0, 0, 20, 20), False),
        (1, _ring(height, width, 20, 0, 60, 60), True),
        (2, _ring(height, width, 40, 20, 30, 30), False),
        (1, _ring(height, width, 60, 10, 25, 25), False),
    ]
    examples = set_of((np.zeros((height, width, 3), np.uint8), objects))
    kept = {1: [2], 2: [2, 1], 3: [0, 2, 1], 4: [0, 1, 2, 1], 6: [0, 1, 2, 1, 0, 0]}
    for most, labels in kept.items():
        found = place_objects(examples.annotated(0), fit(height, width, SIZE), most, 24)
        assert found.dropped == max(0, 4 - most)
        assert found.labels.tolist() == labels
        np.testing.assert_array_equal(np.flatnonzero(found.crowd), [1] if most >= 4 else [])
        assert found.present.sum() == min(3, most)
    batches = _train(examples, scales=(1.0, 1.0), most_objects=3, batch_size=2)
    _take(batches, 3)
    assert batches.dropped == 6


def test_objects_that_are_cut_to_nothing_are_no_objects(set_of):
    height, width = 48, 96
    objects = [(label, _ring(height, width, x, 10, 12, 12), False) for label, x in enumerate((0, 84))]
    examples = set_of((np.zeros((height, width, 3), np.uint8), objects))
    batches = _train(examples, scales=(3.0, 3.0), batch_size=16)
    (batch,) = _take(batches, 1)
    assert batches.dropped == 0
    counts = batch['present'].sum(axis=1)
    assert set(counts) == {0, 1}
    sides = batch['boxes'][..., 2:] - batch['boxes'][..., :2]
    assert sides[batch['present']].min() >= 1
    assert batch['masks'].any(axis=(2, 3))[batch['present']].all()


def test_an_object_of_which_the_square_shows_a_corner_of_its_box_alone_is_none(set_of):
    mask = np.zeros((100, 100), bool)
    mask[:10], mask[:, :10] = True, True
    examples = set_of((np.zeros((100, 100, 3), np.uint8), [(1, mask, False), (2, mask, True)]))
    places = {(0, 0): [1, 2], (100, 100): [2]}  # Rows and columns cut off, and labels of what is seen.
    for (top, left), labels in places.items():
        found = place_objects(examples.annotated(0), Placing(200, 200, top, left, False, SIZE), 4, 24)
        assert found.labels[found.present | found.crowd].tolist() == labels
        assert found.dropped == 0


@pytest.mark.parametrize(('left', 'is_there'), [(75, True), (76, False)])
def test_an_object_of_which_less_than_a_pixel_is_left_is_none(left, is_there, set_of):
    mask = np.zeros((100, 100), bool)
    mask[:, :51] = True  # Scaled to end at 76.5 px.
    examples = set_of((np.zeros((100, 100, 3), np.uint8), [(1, mask, False)]))
    found = place_objects(examples.annotated(0), Placing(150, 150, 0, left, False, SIZE), 4, 24)
    assert found.present.any() == is_there


@pytest.mark.parametrize('processes', [1, 2])
def test_an_evaluation_shows_every_image_whole_and_once(examples, processes, as_process):
    seen = []
    for k in range(processes):
        as_process(k, processes)
        found = _eval(examples)
        assert len(found) == 3
        seen += [image for image in _images(found) if image['mask'] > 0]
    assert sorted(int(image['indices']) for image in seen) == list(range(17))
    for image in seen:
        with Image.open(examples.describe(int(image['indices']))) as whole:
            scale = SIZE / max(whole.size)
            wide, tall = (round(side * scale) for side in whole.size)
            expected = np.asarray(whole.resize((wide, tall), Image.Resampling.BILINEAR), int)
        np.testing.assert_array_equal(image['image_sizes'], [tall, wide])
        assert np.max(np.abs(image['images'][:tall, :wide].astype(int) - expected)) <= 1
        assert np.all(image['images'][tall:] == PADDING)
        assert np.all(image['images'][:, wide:] == PADDING)


@pytest.fixture
def broken(set_of):
    """A set of eight, of which one is no image and one is larger than its set says."""
    examples = set_of(*(_image(seed) for seed in range(8)))
    with open(examples.describe(2), 'wb') as file:
        file.write(b'\x89PNG broken')
    image = Image.open(examples.describe(5))
    image.resize((200, 100)).save(examples.describe(5))
    return examples


def test_broken_images_are_named(broken):
    with pytest.raises(InputError, match=r'005\.png cannot be read: it has 200 x 100 px, and \d+ x \d+ in'):
        list(_eval(broken))
    for index in (2, 5):
        with pytest.raises(InputError, match=rf'00{index}\.png cannot be read: '):
            broken.pixels(index)
    np.testing.assert_array_equal(broken.pixels(4), _image(4)[0])
    Image.fromarray(_image(5)[0]).save(broken.describe(5))
    batches = _train(broken)
    with pytest.raises(InputError, match=r'^/.*002\.png cannot be decoded'):
        next(batches)
    batches.close()


def test_broken_images_are_skipped_and_counted_on_demand(broken):
    batches = _train(broken, skip_broken=True)
    (batch,) = _take(batches, 1)
    assert batches.skipped == 2
    images = _images([batch])
    # Whole ones take their places, with all that belongs to them.
    assert len({image['images'].tobytes() for image in images}) == 6
    assert len({b''.join(value.tobytes() for value in image.values()) for image in images}) == 6
    evaluated = _eval(broken, skip_broken=True)
    (batch,) = list(evaluated)
    np.testing.assert_array_equal(batch['indices'][batch['mask'] == 0], [2, 5])
    assert evaluated.skipped == 2


def test_a_set_without_images_is_refused_and_one_almost_without_objects_warns(examples, set_of, tmp_path):
    assert examples.warnings == ()
    assert examples.class_names == ('left', 'middle', 'right')
    (warning,) = set_of(_image(0), *(_image(i, classes=()) for i in (1, 2))).warnings
    assert '2 of the 3 images' in warning
    for split, part in (('a', 'images'), ('b', 'categories')):
        write_set(tmp_path, split, [_image(0)])
        path = tmp_path / 'annotations' / f'instances_{split}.json'
        path.write_text(json.dumps(json.loads(path.read_text()) | {part: [], 'annotations': []}))
        with pytest.raises(InputError, match=f'instances_{split}.json has no {part}'):
            CocoExamples(tmp_path, split)
    with pytest.raises(InputError, match=r'instances_none\.json cannot be read'):
        CocoExamples(tmp_path, 'none')
