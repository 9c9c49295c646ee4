"""Images a second that one core of this machine reads and decodes, measured on JPEGs made for it."""

import tempfile
import time
from pathlib import Path

import ml_collections
import numpy as np
from PIL import Image

from nfnets import build
from nfnets import config as config_lib
from nfnets.data.source import Source

NUM_IMAGES = 192  # Different ones.
WARM_UP = 3  # Batches before the time begins: what is read ahead is full then, as it is at the end.
_WIDTH, _HEIGHT, _QUALITY = 484, 415, 86  # About ImageNet's: 107 kB each.
_CLASSES = 4
_BATCH_SIZE, _TIMED = 128, 1024


def core_rate(config: ml_collections.ConfigDict) -> float:
    """Images/s of one core for the training images of a config, which it may change.

    Read and decoded at the size of training: what detection makes of boxes and masks is not in it.
    """
    with tempfile.TemporaryDirectory() as directory:
        make_images(Path(directory))
        config.task, config.augment.partners = 'classification', 'batch'
        config.data.source, config.data.dir = 'folder', directory
        config.data.repeats, config.train.accumulate_steps = 1, 1
        config = input_config(config, _BATCH_SIZE)
        _, cpu = time_batches(config, build.source(config, 'train'), _TIMED)
    return 1 / cpu


def input_config(config: ml_collections.ConfigDict, batch_size: int) -> ml_collections.FrozenConfigDict:
    """A complete config for its input alone, of so many images a step; the length of the run is any."""
    config.train.batch_size = batch_size
    config.train.steps, config.optimizer.warmup_steps = 10, 1.0
    config_lib.check(config)
    return config_lib.complete(config, num_examples=10_000, num_classes=1000, num_devices=1)


def make_images(directory: Path) -> None:
    """Writes JPEGs of ImageNet's mean shape and size: noise whose amplitude falls with its frequency."""
    rng = np.random.default_rng(0)
    frequency = np.hypot(np.fft.fftfreq(_HEIGHT)[:, None], np.fft.rfftfreq(_WIDTH)[None, :])
    slope = 1 / np.maximum(frequency, 1 / _WIDTH)
    for index in range(NUM_IMAGES):
        noise = np.fft.rfft2(rng.normal(size=(4, _HEIGHT, _WIDTH))) * slope
        brightness, *colors = np.fft.irfft2(noise, (_HEIGHT, _WIDTH))
        channels = np.stack([brightness + 0.4 * color for color in colors], axis=-1)
        pixels = np.clip(128 + 50 * channels / channels.std(), 0, 255).astype(np.uint8)
        folder = directory / 'train' / str(index % _CLASSES)
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(folder / f'{index}.jpg', quality=_QUALITY)


def time_batches(config: ml_collections.FrozenConfigDict, source: Source, images: int) -> tuple[float, float]:
    """Seconds, and CPU seconds of all threads, for each image trained on, over so many images or more."""
    batches = build.train_batches(config, source, 0)
    try:
        for _ in range(WARM_UP):
            next(batches)
        count = -(-images // config.train.batch_size)
        start, cpu = time.perf_counter(), time.process_time()
        for _ in range(count):
            next(batches)
        taken = count * config.train.batch_size
        return (time.perf_counter() - start) / taken, (time.process_time() - cpu) / taken
    finally:
        batches.close()
