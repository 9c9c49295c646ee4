"""Accuracy against the time of a training step: the paper's figure 1, and what was measured beside it."""

import json
from collections.abc import Iterable
from typing import Any, NamedTuple

from etils import epath

from nfnets.errors import InputError
from nfnets.files import file_errors, why
from nfnets.models.published import OTHERS, STEP_DEVICE, STEP_IMAGES, STEP_MS, TOP_1
from nfnets.models.variants import RECIPES


class Point(NamedTuple):
    """A network: ms of a training step with 32 images on each device, top-1 on ImageNet in %, the devices."""

    name: str
    milliseconds: float
    top_1: float
    devices: str = f'TPU{STEP_DEVICE}'


# Networks without a published time are not drawn.
PUBLISHED: dict[str, tuple[Point, ...]] = {
    'NFNet': tuple(Point(name, STEP_MS[name], top_1) for name, top_1 in TOP_1.items() if name in STEP_MS),
    **{
        family: tuple(Point(name, milliseconds, top_1) for name, (milliseconds, top_1) in members.items())
        for family, members in OTHERS.items()
    },
}


def read_points(path: epath.Path) -> list[Point]:
    """Reads what `scripts/benchmark.py step` printed, one JSON object a line, as it is.

    A time with other than 32 images on a device is scaled to 32. The accuracy is the object's 'top_1' (0..1,
    as `nfnets-evaluate` prints it), if one was put there, or else the paper's for the variant, which was
    trained at its own size of images alone.

    Raises:
      InputError: the file cannot be read, or a line is something else or has no accuracy.
    """
    try:
        lines = path.read_text().splitlines()
    except file_errors(UnicodeDecodeError) as error:
        raise InputError(f'{path} cannot be read: {why(error)}') from error
    return [_point(line, f'{path}:{n}') for n, line in enumerate(lines, 1) if line.strip()]


def _point(line: str, where: str) -> Point:
    try:
        entry: dict[str, Any] = json.loads(line)
        if entry['command'] != 'step':
            raise ValueError(f"its command is {entry['command']!r}, not 'step'")
        milliseconds = float(entry['median_ms']) * STEP_IMAGES / int(entry['batch'])
        variant, size, devices = str(entry['variant']), entry['image_size'], str(entry['device'])
        top_1 = 100 * float(entry['top_1']) if 'top_1' in entry else None
    except (ValueError, TypeError, KeyError, ZeroDivisionError) as error:
        reason = f'it lacks {error}' if isinstance(error, KeyError) else error
        raise InputError(f'{where} is no line that scripts/benchmark.py step prints: {reason}') from error
    name = variant + ('+SAM' if entry.get('sam') else '')
    if top_1 is None and variant in RECIPES and size == RECIPES[variant].train_size:
        top_1 = {point.name: point.top_1 for point in PUBLISHED['NFNet']}.get(name)
    if top_1 is None:
        raise InputError(
            f'{where}: the paper has no accuracy of {name} trained at {size} px; add "top_1", from 0 to 1'
        )
    return Point(name, milliseconds, top_1, devices)


def chart(measured: Iterable[Point]) -> dict[str, Any]:
    """The figure, as data that `charts.js` draws."""
    groups = dict(PUBLISHED)
    for point in measured:
        name = f'measured: {point.devices}'
        groups[name] = (*groups.get(name, ()), point)
    lines = [
        {
            'run': number,
            'name': name,
            'style': 'marked' if name == 'NFNet' else 'points',
            'x': [point.milliseconds for point in points],
            'y': [point.top_1 for point in points],
            'labels': [point.name for point in points],
        }
        for number, (name, points) in enumerate(groups.items())
    ]
    return {
        'title': 'Accuracy on ImageNet by the time of a training step',
        'x': 'ms a step, 32 images on each device',
        'unit': 'top-1, %',
        'logX': True,
        'extent': None,
        'kinds': [],
        'lines': lines,
        'isFamily': True,
    }
