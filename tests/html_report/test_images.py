"""Images of training images, against what a real step of training augments."""

import base64
import io

import haiku as hk
import jax
import numpy as np
import small_runs
from PIL import Image

from nfnets import build, parallel
from nfnets.config import complete
from nfnets.html_report.images import data_uri, spaced, training_images
from nfnets.tasks import classification
from nfnets.train_state import init_train_state

STD, MEAN = np.array([0.229, 0.224, 0.225]), np.array([0.485, 0.456, 0.406])


def _first_step(config, monkeypatch):
    """The augmented batch of each device in the first step of a run, as nfnets/train.py makes it."""
    seen = []
    augment = classification.augment_batch

    def watched(*arguments, **settings):
        batch = augment(*arguments, **settings)
        jax.debug.callback(lambda *arrays: seen.append([np.array(x) for x in arrays]), *batch)
        return batch

    def forward(images, is_training):
        return {'logits': hk.Linear(10)(images.reshape(len(images), -1))}

    with monkeypatch.context() as patch:
        patch.setattr(classification, 'augment_batch', watched)
        patch.setattr(build, 'network', lambda config, layout=None: hk.transform_with_state(forward))
        step = build.train_step(config)
        source = build.source(config, config.data.train_split)
        batches = build.train_batches(config, source, 0)
        batch = parallel.shard_batch(next(batches))
        batches.close()
        init_key, run_key = jax.random.split(jax.random.key(config.seed))
        images = np.zeros((1, 16, 16, 3), np.float32)
        params, network_state = jax.jit(build.network(config).init, static_argnums=2)(init_key, images, True)
        state = parallel.replicate(init_train_state(params, build.optimizer(config), network_state))
        jax.block_until_ready(step(state, batch, run_key))
        jax.effects_barrier()
    return seen, source


def test_training_images_are_those_of_the_first_device(monkeypatch):
    settings = {'data.train_size': 16, 'train.batch_size': 64, 'seed': 3}
    settings |= {'augment.cutmix': True, 'augment.partners': 'fresh'}
    config = complete(
        small_runs.config(settings),
        num_examples=1437,
        num_classes=10,
        num_devices=jax.device_count(),
    )
    devices, source = _first_step(config, monkeypatch)
    assert len(devices) == jax.device_count() == 8
    shown, count = training_images(config, source, most=5)
    assert (len(shown), count) == (5, 8)
    matches = 0
    for images, labels, mix_labels, ratios in devices:
        pixels = np.clip(np.rint((images * STD + MEAN) * 255), 0, 255)
        places = np.array([0, 2, 4, 5, 7])  # Of 8, evenly spaced.
        if not np.allclose([one.pixels for one in shown], pixels[places], atol=1):
            continue
        matches += 1
        for one, i in zip(shown, places, strict=True):
            weights = np.zeros(10)
            weights[labels[i]] += ratios[i]
            weights[mix_labels[i]] += 1 - ratios[i]
            found = np.zeros(10)
            found[list(one.labels)] = list(one.labels.values())
            np.testing.assert_allclose(found, weights, atol=1e-6)
    assert matches == 1


def test_few_of_a_large_batch_are_made():
    config = complete(
        small_runs.config({'data.train_size': 8, 'train.batch_size': 800, 'augment.mixup_alpha': 0.0}),
        num_examples=1437,
        num_classes=10,
        num_devices=8,
    )
    shown, count = training_images(config, build.source(config, 'train'), most=100)
    assert (len(shown), count) == (64, 64)
    assert shown[0].pixels.shape == (8, 8, 3)


def test_things_are_evenly_spaced_from_first_to_last():
    assert spaced(9, 3).tolist() == [0, 4, 8]
    assert spaced(3, 9).tolist() == [0, 1, 2]


def test_small_images_are_kept_bit_by_bit_and_large_ones_reduced():
    rng = np.random.default_rng(0)
    small = rng.integers(0, 256, (32, 64, 3), np.uint8)
    head, _, data = data_uri(small).partition(',')
    assert head == 'data:image/png;base64'
    np.testing.assert_array_equal(Image.open(io.BytesIO(base64.b64decode(data))), small)
    head, _, data = data_uri(np.full((200, 400, 3), 99, np.uint8)).partition(',')
    assert head == 'data:image/jpeg;base64'
    image = Image.open(io.BytesIO(base64.b64decode(data)))
    assert (image.size, image.format) == ((128, 64), 'JPEG')
    np.testing.assert_allclose(image, 99, atol=3)
