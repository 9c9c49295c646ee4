"""Measures what images cost before a training step, on host and device, for `scripts/benchmark.py input`."""

import contextlib
import dataclasses
import functools
import multiprocessing
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
from benchmarks import pil, pod_input, step

from nfnets import build
from nfnets.configs import imagenet
from nfnets.data import decode
from nfnets.data.mixing import mix
from nfnets.data.pixels import pack, unpack
from nfnets.data.randaugment import randaugment
from nfnets.data.source import Source
from nfnets.data.tensorflow import tf
from nfnets.errors import InputError
from nfnets.models.variants import RECIPES
from nfnets.planning.core_rate import NUM_IMAGES, input_config, make_images, time_batches
from nfnets.tasks import classification

MADE = 'made'  # A source: JPEGs that are made for the benchmark.


@dataclasses.dataclass(frozen=True)
class Setup:
    """Settings of a measurement.

    Attributes:
      variant: one of `VARIANTS`, whose sizes and augmentation the images get.
      source: `MADE`, or a data.source.
      dir: data.dir.
      name: data.name.
      split: data.train_split.
      batch: images that the host makes at a time.
      images: that each round makes at least.
      batch_on_device: images of a step on the device; 0: the device is skipped.
      against: 'pil'; 'bucket', to measure the input of hosts from a bucket instead; or None.
      processes: hosts that read from a bucket at once.
      latency_ms: of each request to it.
    """

    variant: str
    source: str
    dir: str | None
    name: str
    split: str
    batch: int
    images: int
    batch_on_device: int
    against: str | None
    processes: int
    latency_ms: int


def measure(setup: Setup, rounds: int) -> dict[str, Any]:
    """The JSON object that `scripts/benchmark.py input` prints; each loader is run in so many rounds."""
    if setup.against == 'bucket':
        return measure_bucket(setup, rounds)
    figures = measure_host(setup, rounds)
    if setup.batch_on_device:
        figures['device_ms_an_image'] = measure_device(setup.variant, setup.batch_on_device)
    return figures


def measure_bucket(setup: Setup, rounds: int) -> dict[str, Any]:
    """Throughput of hosts that read from a disk and from a bucket, on files of the benchmark's own."""
    if setup.processes < 1 or setup.batch % setup.processes:
        raise InputError(f'--batch={setup.batch} cannot be shared by --processes={setup.processes}')
    config = make_config(setup, None, 'batch')
    return {
        'command': 'input',
        'variant': setup.variant,
        'image_size': config.data.train_size,
        **{key: getattr(setup, key) for key in ('batch', 'processes', 'latency_ms')},
        **pod_input.measure(config, setup.images, setup.processes, setup.latency_ms, rounds),
    }


def measure_host(setup: Setup, rounds: int) -> dict[str, Any]:
    """All of `measure` but what images take the device."""
    with contextlib.ExitStack() as stack:
        directory = setup.dir
        if setup.source == MADE:
            directory = stack.enter_context(tempfile.TemporaryDirectory())
            make_images(Path(directory))
        configs = {partners: make_config(setup, directory, partners) for partners in ('batch', 'fresh')}
        config = configs['batch']
        source = build.source(config, config.data.train_split)
        loaders = {'ours': time_batches, 'pil': time_pil} if setup.against else {'ours': time_batches}
        timers = {
            (name, partners): functools.partial(load, config, source, setup.images)
            for name, load in loaders.items()
            for partners, config in configs.items()
        }
        times = [{key: run() for key, run in timers.items()} for _ in range(rounds)]
        stages = host_stages(config, source)
        sizes = [len(source.read(index)[0]) for index in range(min(len(source), NUM_IMAGES))]
    figures: dict[str, dict[str, Any]] = {name: {} for name in loaders}
    for name, partners in timers:
        figures[name][partners] = summarize([each[name, partners] for each in times])
        if name == 'pil':
            pairs = [(each['pil', partners], each['ours', partners]) for each in times]
            wall, cpu = (statistics.median(theirs[i] / ours[i] for theirs, ours in pairs) for i in (0, 1))
            figures['ours'][partners] |= {'pil_time_ratio': round(wall, 2), 'pil_cpu_ratio': round(cpu, 2)}
    return {
        'command': 'input',
        'variant': setup.variant,
        'source': setup.source,
        'batch': setup.batch,
        'image_size': config.data.train_size,
        'bytes_an_image': round(statistics.mean(sizes)),
        'partners': figures['ours'],
        **({'pil': figures['pil']} if 'pil' in figures else {}),
        'host_cpu_ms_a_source_image': stages,
    }


def make_config(setup: Setup, directory: str | None, partners: str) -> ml_collections.FrozenConfigDict:
    """The paper's config for the variant on the source, which lies in a directory."""
    config = imagenet.get_config(setup.variant)
    config.data.source = 'folder' if setup.source == MADE else setup.source
    config.data.dir = directory
    config.data.name, config.data.train_split = setup.name, setup.split
    config.augment.partners = partners
    return input_config(config, setup.batch)


def time_pil(config: ml_collections.FrozenConfigDict, source: Source, images: int) -> tuple[float, float]:
    """The seconds of `time_batches`, of processes that use Pillow, as many as there are cores."""
    workers = multiprocessing.cpu_count()
    size = config.train.batch_size
    task = pil.Task(
        config.data.train_size,
        config.data.crop_area,
        config.augment.randaugment_layers,
        config.augment.randaugment_magnitude,
        config.augment.mixup_alpha,
        config.augment.partners,
    )
    count = -(-images // size)
    shape = workers + count, size * classification.augmentation(config).images_per_example
    chosen = np.random.default_rng(0).integers(0, len(source), shape)
    encoded = ((task, seed, [source.read(int(i)) for i in indices]) for seed, indices in enumerate(chosen))
    with multiprocessing.get_context('spawn').Pool(workers) as pool:
        done = pool.imap(pil.load, encoded)
        for _ in range(workers):
            next(done)
        start, cpu = time.perf_counter(), []
        for _ in range(count):
            cpu.append(next(done)[-1])
        seconds = time.perf_counter() - start
    return seconds / (count * size), sum(cpu) / (count * size)


def summarize(times: list[tuple[float, float]]) -> dict[str, float]:
    """Medians over rounds of seconds and CPU seconds for each image."""
    seconds, cpu = (statistics.median(values) for values in zip(*times, strict=True))
    return {'images_per_second': round(1 / seconds), 'cpu_ms_an_image': round(1e3 * cpu, 2)}


def host_stages(config: ml_collections.FrozenConfigDict, source: Source) -> dict[str, float]:
    """{stage: CPU ms for one source image, on one thread}."""
    count = min(len(source), NUM_IMAGES)
    data = config.data
    crop = decode.TrainCrop(data.train_size, data.eval_margin, data.crop_area, flip=True)
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
    cropped = seconds(lambda e, s: decode.random_crop(e, s, crop))
    whole = seconds(lambda e, s: decode.decode_train(e, s, crop))
    stages = {'read': read, 'decode_crop': cropped - nothing, 'flip_resize_round': whole - cropped}
    return {name: round(1e3 * value, 3) for name, value in stages.items()}


def measure_device(variant: str, batch: int) -> dict[str, float]:
    """Ms that mixing, RandAugment and the step take the device for one image, and how they compare."""
    size = RECIPES[variant].train_size
    stages = device_stages(variant, batch)
    run, _ = step.training_step(step.Setup('step', variant, batch, size, 'float32'))
    seconds = step.time_in_turn({'step': run}, 5)['step']
    step_ms = round(1e3 * float(np.median(seconds)) / batch, 3)
    fraction = round((stages['mixing'] + stages['randaugment']) / step_ms, 4)
    return {**stages, 'step': step_ms, 'share_of_step': fraction}


def device_stages(variant: str, batch: int) -> dict[str, float]:
    """Ms that mixing and RandAugment of a variant take the device for one image."""
    recipe, settings = RECIPES[variant], imagenet.get_config(variant).augment
    size = recipe.train_size
    rng = np.random.default_rng(0)
    images = jnp.asarray(rng.integers(0, 256, (batch, size, size, 3), np.uint8))
    labels = jnp.zeros(batch, jnp.int32)

    def mixing(key: jax.Array, images: jax.Array) -> jax.Array:
        both = {'mixup_alpha': settings.mixup_alpha, 'cutmix': settings.cutmix}
        return mix(key, images, labels, images[::-1], labels, **both).images

    def operations(key: jax.Array, images: jax.Array) -> jax.Array:
        layers, magnitude = settings.randaugment_layers, recipe.randaugment_magnitude
        return unpack(randaugment(key, pack(images), layers=layers, magnitude=magnitude))

    stages = {}
    for name, stage in {'mixing': mixing, 'randaugment': operations}.items():
        run = jax.jit(stage)
        seconds = []
        for seed in range(11):
            key = jax.random.key(seed)
            start = time.perf_counter()
            run(key, images).block_until_ready()
            seconds.append(time.perf_counter() - start)
        stages[name] = round(1e3 * statistics.median(seconds[1:]) / batch, 3)
    return stages
