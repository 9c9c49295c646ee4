"""Accuracy against the time of a training step: the paper's figure 1, and what was measured beside it."""

import json
from collections.abc import Iterable
from typing import Any, NamedTuple

from etils import epath

from nfnets.errors import InputError
from nfnets.files import file_errors, why
from nfnets.variants import VARIANTS

_BATCH = 32  # Images on each device, in the paper.


class Point(NamedTuple):
    """A network: ms of a training step with 32 images on each device, top-1 on ImageNet in %, the devices."""

    name: str
    milliseconds: float
    top_1: float
    devices: str = 'TPUv3'


# Table 3 of arXiv 2102.06171, which figure 1 shows: bfloat16 on TPUv3. Networks without a time are left out.
PUBLISHED: dict[str, tuple[Point, ...]] = {
    'NFNet': (
        Point('F0', 73.3, 83.6),
        Point('F1', 158.5, 84.7),
        Point('F2', 295.8, 85.1),
        Point('F3', 532.2, 85.7),
        Point('F4', 1033.3, 85.9),
        Point('F5', 1398.5, 86.0),
        Point('F5+SAM', 1958.0, 86.3),
        Point('F6+SAM', 2774.1, 86.5),
    ),
    'EfficientNet': (
        Point('B0', 51.1, 77.1),
        Point('B3', 129.5, 81.6),
        Point('B4', 245.9, 82.9),
        Point('B5', 450.5, 83.7),
        Point('B6', 775.7, 84.0),
        Point('B7', 1397.0, 84.7),
    ),
    'SENet': (Point('50', 64.3, 79.4), Point('152', 149.9, 83.1), Point('350', 593.6, 83.8)),
    'LambdaNet': (Point('152', 138.3, 83.0), Point('350', 471.4, 84.5), Point('420', 593.9, 84.8)),
    'BoTNet': (
        Point('110', 181.3, 82.8),
        Point('128-T5', 355.2, 83.5),
        Point('77-T6', 578.1, 84.0),
        Point('128-T7', 804.5, 84.7),
    ),
    'ResNet': (Point('50', 41.6, 78.6),),
}


def read_points(path: epath.Path) -> list[Point]:
    """Reads what `scripts/benchmark.py step` printed, one JSON object a line, as it is.

    A time with other than 32 images on a device is scaled to 32. The accuracy is the object's 'top_1' (0..1,
    as `scripts/evaluate.py` prints it), if one was put there, or else the paper's for the variant, which was
    trained at its own size of images alone.

    Raises:
      InputError: the file cannot be read, or a line is something else or tells no accuracy.
    """
    try:
        lines = path.read_text().splitlines()
    except file_errors(UnicodeDecodeError) as error:
        raise InputError(f'{path} cannot be read: {why(error)}') from error
    return [_point(line, f'{path}:{n}') for n, line in enumerate(lines, 1) if line.strip()]


def _point(line: str, where: str) -> Point:
    try:
        told: dict[str, Any] = json.loads(line)
        if told['command'] != 'step':
            raise ValueError(f"its command is {told['command']!r}, not 'step'")
        milliseconds = float(told['median_ms']) * _BATCH / int(told['batch'])
        variant, size, devices = str(told['variant']), told['image_size'], str(told['device'])
        top_1 = 100 * float(told['top_1']) if 'top_1' in told else None
    except (ValueError, TypeError, KeyError, ZeroDivisionError) as error:
        reason = f'it lacks {error}' if isinstance(error, KeyError) else error
        raise InputError(f'{where} is no line that scripts/benchmark.py step prints: {reason}') from error
    name = variant + ('+SAM' if told.get('sam') else '')
    if top_1 is None and variant in VARIANTS and size == VARIANTS[variant].train_size:
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
