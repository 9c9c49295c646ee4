"""What images cost the host before a training step and the device in it, for `scripts/benchmark.py input`."""

import argparse
import contextlib
import functools
import multiprocessing
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import benchmark_pil
import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import tensorflow as tf
from PIL import Image

from configs import imagenet
from nfnets import build
from nfnets import config as config_lib
from nfnets.data import decode
from nfnets.data.mixing import mix
from nfnets.data.randaugment import randaugment
from nfnets.data.source import Source
from nfnets.variants import VARIANTS

_MADE = 192  # Different pictures.
_WIDTH, _HEIGHT, _QUALITY = 484, 415, 86  # About ImageNet's: 107 kB each.
_CLASSES = 4


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """Everything that is printed, of a source on this machine."""
    with contextlib.ExitStack() as stack:
        directory = arguments.dir
        if arguments.source == 'made':
            directory = stack.enter_context(tempfile.TemporaryDirectory())
            make_pictures(Path(directory))
        configs = {partners: settings(arguments, directory, partners) for partners in ('batch', 'fresh')}
        config = configs['batch']
        source = build.source(config, config.data.train_split)
        loaders = {'ours': ours, 'pil': pil} if arguments.against == 'pil' else {'ours': ours}
        ways = {
            (name, partners): functools.partial(load, config, source, arguments.images)
            for name, load in loaders.items()
            for partners, config in configs.items()
        }
        rounds = [{way: run() for way, run in ways.items()} for _ in range(arguments.rounds)]
        stages = host_stages(config, source)
        sizes = [len(source.read(index)[0]) for index in range(min(len(source), _MADE))]
    told: dict[str, dict[str, Any]] = {name: {} for name in loaders}
    for name, partners in ways:
        told[name][partners] = figures([each[name, partners] for each in rounds])
        if name == 'pil':
            pairs = [(each['pil', partners], each['ours', partners]) for each in rounds]
            wall, cpu = (statistics.median(pil_[i] / ours_[i] for pil_, ours_ in pairs) for i in (0, 1))
            told['ours'][partners] |= {'pil_time_ratio': round(wall, 2), 'pil_cpu_ratio': round(cpu, 2)}
    return {
        'command': 'input',
        'variant': arguments.variant,
        'source': arguments.source,
        'batch': arguments.batch,
        'image_size': config.data.train_size,
        'bytes_an_image': round(statistics.mean(sizes)),
        'partners': told['ours'],
        **({'pil': told['pil']} if 'pil' in told else {}),
        'host_cpu_ms_a_source_image': stages,
    }


def core_rate(variant: str) -> float:
    """Images a second that one core reads, decodes and resizes for a variant, of JPEGs of its own."""
    arguments = argparse.Namespace(
        variant=variant, source='made', name='imagenet2012', split='train', batch=128
    )
    with tempfile.TemporaryDirectory() as directory:
        make_pictures(Path(directory))
        config = settings(arguments, directory, 'batch')
        _, cpu = ours(config, build.source(config, 'train'), 1024)
    return 1 / cpu


def settings(
    arguments: argparse.Namespace, directory: str | None, partners: str
) -> ml_collections.FrozenConfigDict:
    """The paper's config for the variant on the source."""
    config = imagenet.get_config(arguments.variant)
    config.data.source = 'folder' if arguments.source == 'made' else arguments.source
    config.data.dir = directory
    config.data.name, config.data.train_split = arguments.name, arguments.split
    config.augment.partners = partners
    config.train.batch_size = arguments.batch
    config.train.steps, config.optimizer.warmup_steps = 10, 1.0
    config_lib.check(config)
    return config_lib.complete(config, num_examples=10_000, num_classes=1000, num_devices=1)


def make_pictures(directory: Path) -> None:
    """Writes JPEGs of ImageNet's mean shape and size: noise whose amplitude falls with its frequency."""
    rng = np.random.default_rng(0)
    frequency = np.hypot(np.fft.fftfreq(_HEIGHT)[:, None], np.fft.rfftfreq(_WIDTH)[None, :])
    slope = 1 / np.maximum(frequency, 1 / _WIDTH)
    for index in range(_MADE):
        noise = np.fft.rfft2(rng.normal(size=(4, _HEIGHT, _WIDTH))) * slope
        brightness, *colours = np.fft.irfft2(noise, (_HEIGHT, _WIDTH))
        channels = np.stack([brightness + 0.4 * colour for colour in colours], axis=-1)
        pixels = np.clip(128 + 50 * channels / channels.std(), 0, 255).astype(np.uint8)
        folder = directory / 'train' / str(index % _CLASSES)
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(folder / f'{index}.jpg', quality=_QUALITY)


def ours(config: ml_collections.FrozenConfigDict, source: Source, images: int) -> tuple[float, float]:
    """Seconds and CPU seconds for each image trained on, of this project's pipeline."""
    batches = build.train_batches(config, source, 0)
    try:
        for _ in range(3):  # What is read ahead is full then, as it is at the end.
            next(batches)
        count = -(-images // config.train.batch_size)
        start, cpu = time.perf_counter(), time.process_time()
        for _ in range(count):
            next(batches)
        taken = count * config.train.batch_size
        return (time.perf_counter() - start) / taken, (time.process_time() - cpu) / taken
    finally:
        batches.close()


def pil(config: ml_collections.FrozenConfigDict, source: Source, images: int) -> tuple[float, float]:
    """The same of processes that use Pillow, as many as there are cores."""
    workers = multiprocessing.cpu_count()
    size = config.train.batch_size
    task = benchmark_pil.Task(
        config.data.train_size,
        config.data.crop_area,
        config.augment.randaugment_layers,
        config.augment.randaugment_magnitude,
        config.augment.mixup_alpha,
        config.augment.partners,
    )
    count = -(-images // size)
    shape = workers + count, size * build.images_per_example(config)
    chosen = np.random.default_rng(0).integers(0, len(source), shape)
    encoded = ((task, seed, [source.read(int(i)) for i in indices]) for seed, indices in enumerate(chosen))
    with multiprocessing.get_context('spawn').Pool(workers) as pool:
        done = pool.imap(benchmark_pil.load, encoded)
        for _ in range(workers):
            next(done)
        start, spent = time.perf_counter(), []
        for _ in range(count):
            spent.append(next(done)[-1])
        seconds = time.perf_counter() - start
    return seconds / (count * size), sum(spent) / (count * size)


def figures(rounds: list[tuple[float, float]]) -> dict[str, float]:
    """Medians over rounds."""
    seconds, cpu = (statistics.median(values) for values in zip(*rounds, strict=True))
    return {'images_per_second': round(1 / seconds), 'cpu_ms_an_image': round(1e3 * cpu, 2)}


def host_stages(config: ml_collections.FrozenConfigDict, source: Source) -> dict[str, float]:
    """CPU ms of each stage for one source image, on one thread."""
    count = min(len(source), _MADE)
    size, margin, crop_area = config.data.train_size, config.data.eval_margin, config.data.crop_area
    cpu = time.process_time()
    encoded = [source.read(index)[0] for index in range(count)]
    read = (time.process_time() - cpu) / count
    seeds = np.stack([np.zeros(count, np.int64), np.arange(count)], axis=1)
    examples = tf.data.Dataset.from_tensor_slices((encoded, seeds))

    def seconds(decode_fn: Callable[[tf.Tensor, tf.Tensor], tf.Tensor]) -> float:
        images = examples.map(decode_fn).repeat(2).prefetch(1)
        cpu = time.process_time()
        for _ in images:
            pass
        return (time.process_time() - cpu) / (2 * count)

    nothing = seconds(lambda e, s: e)
    crop = seconds(lambda e, s: decode.random_crop(e, s, size=size, margin=margin, crop_area=crop_area))
    whole = seconds(
        lambda e, s: decode.decode_train(e, s, size=size, margin=margin, crop_area=crop_area, flip=True)
    )
    stages = {'read': read, 'decode_crop': crop - nothing, 'flip_resize_round': whole - crop}
    return {name: round(1e3 * value, 3) for name, value in stages.items()}


def device_stages(name: str, batch: int) -> dict[str, float]:
    """Ms that mixing and RandAugment of a variant take the device for one image."""
    variant, settings = VARIANTS[name], imagenet.get_config(name).augment
    size = variant.train_size
    rng = np.random.default_rng(0)
    images = jnp.asarray(rng.integers(0, 256, (batch, size, size, 3), np.uint8))
    labels = jnp.zeros(batch, jnp.int32)

    def mixing(key: jax.Array, images: jax.Array) -> jax.Array:
        both = {'mixup_alpha': settings.mixup_alpha, 'cutmix': settings.cutmix}
        return mix(key, images, labels, images[::-1], labels, **both).images

    def operations(key: jax.Array, images: jax.Array) -> jax.Array:
        layers, magnitude = settings.randaugment_layers, variant.randaugment_magnitude
        return randaugment(key, images, layers=layers, magnitude=magnitude)

    told = {}
    for name, stage in {'mixing': mixing, 'randaugment': operations}.items():
        run = jax.jit(stage)
        seconds = []
        for seed in range(11):
            key = jax.random.key(seed)
            start = time.perf_counter()
            run(key, images).block_until_ready()
            seconds.append(time.perf_counter() - start)
        told[name] = round(1e3 * statistics.median(seconds[1:]) / batch, 3)
    return told
