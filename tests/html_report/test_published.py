"""The paper's points, and those that were measured beside them."""

import json

import pytest

from nfnets.errors import InputError
from nfnets.html_report.published import PUBLISHED, Point, chart, read_points

STEP = {
    'command': 'step',
    'variant': 'F0',
    'batch': 8,
    'image_size': 192,
    'sam': False,
    'device': 'cpu, 1 of them',
    'median_ms': 1145.0,
}


def _file(folder, *lines):
    path = folder / 'steps.jsonl'
    path.write_text('\n'.join(line if isinstance(line, str) else json.dumps(line) for line in lines))
    return path


def test_measured_times_are_of_32_images_at_the_papers_accuracy_or_ones_own(tmp_path):
    path = _file(
        tmp_path,
        STEP,
        '',
        STEP | {'batch': 32, 'variant': 'F5', 'image_size': 416, 'sam': True, 'device': 'GPU'},
        STEP | {'image_size': 96, 'top_1': 0.8125, 'batch': 64},
    )
    assert read_points(path) == [
        Point('F0', 4580.0, 83.6, 'cpu, 1 of them'),
        Point('F5+SAM', 1145.0, 86.3, 'GPU'),
        Point('F0', 572.5, 81.25, 'cpu, 1 of them'),
    ]


@pytest.mark.parametrize(
    ('line', 'message'),
    [
        ('{"command"', r'steps\.jsonl:1 is no line that scripts/benchmark\.py step prints: '),
        ('[1]', 'is no line that'),
        (STEP | {'command': 'eval'}, "its command is 'eval', not 'step'"),
        (STEP | {'batch': 0}, 'division by zero'),
        ({key: value for key, value in STEP.items() if key != 'median_ms'}, "it lacks 'median_ms'"),
        (STEP | {'image_size': 96}, 'no accuracy of F0 trained at 96 px; add "top_1", from 0 to 1'),
        (STEP | {'variant': 'F7', 'image_size': 480}, 'no accuracy of F7'),
        (STEP | {'variant': 'x'}, 'no accuracy of x'),
    ],
)
def test_other_lines_are_refused(tmp_path, line, message):
    with pytest.raises(InputError, match=message):
        read_points(_file(tmp_path, line))


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(InputError, match=r'none\.jsonl cannot be read'):
        read_points(tmp_path / 'none.jsonl')


def test_the_figure_has_every_point_and_a_color_for_each_device():
    drawn = chart([Point('F0', 9.0, 83.6, 'x'), Point('F1', 10.0, 84.7, 'y'), Point('F2', 11.0, 85.1, 'x')])
    lines = {line['name']: line for line in drawn['lines']}
    assert lines.keys() == {*PUBLISHED, 'measured: x', 'measured: y'}
    assert lines['measured: x']['x'] == [9.0, 11.0]
    assert lines['measured: x']['labels'] == ['F0', 'F2']
    assert len({line['run'] for line in drawn['lines']}) == len(lines)
    for family, points in PUBLISHED.items():
        assert list(zip(lines[family]['labels'], lines[family]['x'], lines[family]['y'], strict=True)) == [
            point[:3] for point in points
        ]
