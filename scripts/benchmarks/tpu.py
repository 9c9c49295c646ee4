"""What XLA's TPU compiler estimates of a training step, as a table."""

import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

from benchmarks.imagenet_config import complete

from nfnets.commands import config_flags
from nfnets.configs import imagenet
from nfnets.errors import InputError
from nfnets.models.published import STEP_DEVICE, STEP_IMAGES, STEP_MS
from nfnets.planning.account import DETECTION
from nfnets.planning.estimate import estimate_step
from nfnets.planning.tpus import DEVICES


@dataclasses.dataclass(frozen=True)
class Setup:
    """The step that is estimated.

    Attributes:
      variant: of the NFNet.
      config: any other recipe by name, as 'coco:NFResNet50', or None.
      classes: of the data.
      device: one of `DEVICES`.
      batch: images of each device.
      augment: with the paper's augmentation.
      scan: model.scan.
      remat: model.remat.
      shard_optimizer: train.shard_optimizer, over the devices of one host.
      sam: with the paper's sharpness-aware gradient.
      effort: of the compiler, one of `EFFORTS`.
      against_file: a file with what an earlier call printed, or None.
    """

    variant: str
    config: str | None
    classes: int
    device: str
    batch: int
    augment: bool
    scan: bool
    remat: bool
    shard_optimizer: bool
    sam: bool
    effort: str
    against_file: Path | None


def measure(setup: Setup) -> dict[str, Any]:
    """The estimate; prints the table to standard error.

    Raises:
      InputError: there is no TPU compiler, or the earlier file cannot be read.
    """
    earlier = None if setup.against_file is None else _read(setup.against_file)
    device = DEVICES[setup.device]
    answer = estimate_step(_config(setup), device, setup.effort)
    asked = dataclasses.asdict(setup)
    del asked['against_file']
    result = {**asked, 'clock_mhz': device.clock_mhz, **answer}
    name = setup.variant + ('+SAM' if setup.sam else '')
    as_published = setup.config is None and (setup.device, setup.batch) == (STEP_DEVICE, STEP_IMAGES)
    if as_published and name in STEP_MS:
        result['published_ms'] = STEP_MS[name]
    for line in _table(result, earlier):
        print(line, file=sys.stderr)
    return result


def _config(setup: Setup) -> Any:
    config = config_flags.load(setup.config or f'imagenet:{setup.variant}')
    if setup.sam:
        config.sam.rho = imagenet.SAM_RHO
    devices = DEVICES[setup.device].per_host
    config.train.batch_size = setup.batch * devices
    config.model.scan, config.model.remat = setup.scan, setup.remat
    config.train.shard_optimizer = setup.shard_optimizer
    return complete(config, num_devices=devices, augment=setup.augment, num_classes=setup.classes)


def _read(path: Path) -> dict[str, Any]:
    try:
        earlier = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise InputError(f'--against-file={path} cannot be read: {error}') from error
    if not isinstance(earlier, dict) or not {'parts', 'estimated_cycles'} <= earlier.keys():
        raise InputError(f'--against-file={path} is not what this command prints')
    return earlier


def _table(result: dict[str, Any], earlier: dict[str, Any] | None) -> list[str]:
    before = {} if earlier is None else earlier['parts']
    lines = [f'{"thousand cycles":>16}{"MB":>10}{"" if earlier is None else "    before"}  part']
    for name, part in result['parts'].items():
        lines.append(_row(part, before.get(name), earlier is not None, name))
    for name in before:
        if name not in result['parts']:
            lines.append(_row({'cycles': 0, 'bytes': 0}, before[name], True, name))
    whole = {'cycles': result['estimated_cycles'], 'bytes': result['bytes_accessed']}
    earlier_whole = None if earlier is None else {'cycles': earlier['estimated_cycles']}
    lines.append(_row(whole, earlier_whole, earlier is not None, 'the whole step'))
    lines.append(
        f'estimated {result["estimated_ms"]:.1f} ms at {result["clock_mhz"]:g} MHz'
        + (f' ({result["published_ms"]:g} ms were published)' if 'published_ms' in result else '')
        + f', {100 * result["share_of_peak"]:.0f}% of the peak, {result["memory_gib"]:.1f} GiB; '
        f'{result["compiler"]}: an estimate, no measurement'
    )
    if any(found := [part['cycles'] for name, part in result['parts'].items() if name.startswith(DETECTION)]):
        share = sum(found) / result['estimated_cycles']
        lines.append(f'{100 * share:.0f}% of the cycles are of detection, besides its backbone')
    if earlier is not None:
        lines.append(f'{result["estimated_cycles"] / earlier["estimated_cycles"]:.3f} of the cycles before')
    return lines


def _row(part: dict[str, int], before: dict[str, int] | None, compares: bool, name: str) -> str:
    then = f'{before["cycles"] / 1e3:,.0f}' if before else '-'
    return (
        f'{part["cycles"] / 1e3:>16,.0f}{part["bytes"] / 1e6:>10,.0f}{then if compares else "":>10}  {name}'
    )
