"""Time of a training run, and the images a second that its devices and hosts must handle."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from nfnets.models.published import STEP_DEVICE, STEP_IMAGES, STEP_MS
from nfnets.planning.tpus import DEVICES, Device

# What was published for F0, F1 and F3 to the estimate of XLA's TPU compiler with the least effort for scanned
# blocks, on v3 with 32 images a device (docs/performance.md).
CALIBRATION = 0.66


class Pace(NamedTuple):
    """The pace of a training run.

    Attributes:
      step_ms: time of a step, ms.
      days: length of the whole run.
      images_per_second: images trained on, over all devices.
      host_images_per_second: images/s that each host decodes, by `augment.partners`; by 'none' if images are
        not mixed.
      host_cores: cores that this keeps busy on each host, alike.
    """

    step_ms: float
    days: float
    images_per_second: float
    host_images_per_second: dict[str, float]
    host_cores: dict[str, float]


def step_times(variant: str, device: Device, images_per_device: int, *, sam: bool) -> dict[str, float]:
    """{how it is estimated: ms of a step}, from the published one; {} if there is none.

    In proportion to the images of a device; and, but for v3 itself, also to the devices' peaks.

    Args:
      variant: of the NFNet.
      device: kind of TPU.
      images_per_device: images of a step on each device.
      sam: with SAM on a fifth of them.
    """
    published = STEP_MS.get(variant + ('+SAM' if sam else ''))
    if published is None:
        return {}
    step_ms = published * images_per_device / STEP_IMAGES
    times = {f'published for {STEP_DEVICE}': step_ms}
    if device.name != STEP_DEVICE:
        times[f'scaled to {device.name}'] = step_ms * DEVICES[STEP_DEVICE].teraflops / device.teraflops
    return times


def estimated_time(device: Device, cycles: Sequence[int | None]) -> dict[str, float]:
    """{how it is estimated: ms of a step}, by the TPU compiler's estimate; {} if there is none.

    Args:
      device: kind of TPU.
      cycles: of programs that fit, the fastest first, each compiled with the least effort; None: not known.
    """
    known = [number for number in cycles if number is not None]
    return {'estimated by XLA': CALIBRATION * known[0] / device.clock_mhz / 1e3} if known else {}


def pace(
    step_ms: float,
    *,
    steps: int,
    batch_size: int,
    hosts: int,
    core_rate: float,
    decoded: Mapping[str, int],
) -> Pace:
    """The pace of a training run.

    Args:
      step_ms: time of a step, ms.
      steps: length of the run.
      batch_size: images of a step over all hosts.
      hosts: number of them; each decodes as many images.
      core_rate: images a second that one core reads and decodes.
      decoded: images for each that is trained on, by `augment.partners`.
    """
    images_per_second = 1e3 * batch_size / step_ms
    rates = {partners: n * images_per_second / hosts for partners, n in decoded.items()}
    return Pace(
        step_ms=step_ms,
        days=steps * step_ms / 1e3 / 86_400,
        images_per_second=images_per_second,
        host_images_per_second=rates,
        host_cores={partners: rate / core_rate for partners, rate in rates.items()},
    )
