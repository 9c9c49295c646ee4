"""What a training run will need of its devices and hosts: time, and images a second."""

from typing import NamedTuple

from nfnets.devices import DEVICES, Device

# As printed in arXiv 2102.06171: ms of a training step with 32 images on each device of TPU v3 in bfloat16,
# gradients added up over 32 devices, images on the device already; plain, and with SAM.
PUBLISHED_MS = {'F0': 73.3, 'F1': 158.5, 'F2': 295.8, 'F3': 532.2, 'F4': 1033.3, 'F5': 1398.5}
PUBLISHED_SAM_MS = {'F5': 1958.0, 'F6': 2774.1}
_PUBLISHED_IMAGES = 32
_PUBLISHED_DEVICE = DEVICES['v3']
# By augment.partners: images read for each that is trained on.
_READ_FOR_EACH = {'fresh': 2, 'batch': 1}


class Pace(NamedTuple):
    """What follows from the time of a step.

    Attributes:
      step_ms: that time.
      days: of the whole run.
      images_per_second: trained on, over all devices.
      host_images_per_second: that each host reads and decodes, by `augment.partners`.
      host_cores: that this keeps busy on each host, by the same.
    """

    step_ms: float
    days: float
    images_per_second: float
    host_images_per_second: dict[str, float]
    host_cores: dict[str, float]


def step_times(variant: str, device: Device, images_per_device: int, *, sam: bool) -> dict[str, float]:
    """{how it is estimated: ms of a step}, from the published one; {} if there is none.

    In proportion to the images of a device; and, but for v3 itself, also to the devices' peaks.
    """
    published = (PUBLISHED_SAM_MS if sam else PUBLISHED_MS).get(variant)
    if published is None:
        return {}
    step_ms = published * images_per_device / _PUBLISHED_IMAGES
    times = {'published for v3': step_ms}
    if device != _PUBLISHED_DEVICE:
        times[f'scaled to {device.name}'] = step_ms * _PUBLISHED_DEVICE.teraflops / device.teraflops
    return times


def pace(step_ms: float, *, steps: int, batch_size: int, hosts: int, core_rate: float) -> Pace:
    """Of a run.

    Args:
      step_ms: of a step.
      steps: of the run.
      batch_size: images of a step over all hosts.
      hosts: that share them evenly.
      core_rate: images a second that one core reads and decodes.
    """
    images_per_second = 1e3 * batch_size / step_ms
    reads = {partners: n * images_per_second / hosts for partners, n in _READ_FOR_EACH.items()}
    return Pace(
        step_ms=step_ms,
        days=steps * step_ms / 1e3 / 86_400,
        images_per_second=images_per_second,
        host_images_per_second=reads,
        host_cores={partners: rate / core_rate for partners, rate in reads.items()},
    )
