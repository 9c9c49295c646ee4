"""`scripts/benchmark.py tpu`: its table, and comparisons with what it printed before."""

import importlib
import json

import pytest
import training_runs

from nfnets.errors import InputError
from nfnets.planning.tpus import DEVICES

PARTS = {
    'stem': {'cycles': 5_000_000, 'bytes': 600_000_000},
    'AGC': {'cycles': 1_000_000, 'bytes': 200_000_000},
}
ANSWER = {
    'compiler': 'XLA for TPU v3 0.1, default effort',
    'estimated_cycles': 6_000_000,
    'estimated_ms': 6_000_000 / 940e3,
    'bytes_accessed': 800_000_000,
    'logged_cycles': 10,
    'memory_gib': 2.5,
    'compile_seconds': 100.0,
    'parts': PARTS,
    'not_placed': {},
    'flops': 10**11,
    'share_of_peak': 0.25,
}


@pytest.fixture
def tpu(monkeypatch):
    monkeypatch.syspath_prepend(training_runs.ROOT / 'scripts')
    return importlib.import_module('benchmarks.tpu')


def _setup(tpu, **changed):
    off = dict.fromkeys(('augment', 'scan', 'remat', 'shard_optimizer', 'sam'), False)
    settings = {'variant': 'F0', 'config': None, 'classes': 1000, 'device': 'v3', 'batch': 32, **off}
    return tpu.Setup(**{**settings, 'effort': 'default', 'against_file': None, **changed})


def test_parts_stand_beside_those_of_an_earlier_file(tpu, monkeypatch, tmp_path, capsys):
    asked = []

    def estimate(config, device, effort):
        settings = config.train.batch_size, config.train.shard_optimizer, config.augment.randaugment_layers
        asked.append((*settings, device, effort))
        return ANSWER

    monkeypatch.setattr(tpu, 'estimate_step', estimate)
    before = {**ANSWER, 'estimated_cycles': 8_000_000, 'parts': {'stem': {'cycles': 8_000_000, 'bytes': 1}}}
    (tmp_path / 'before.json').write_text(json.dumps(before))
    result = tpu.measure(_setup(tpu, shard_optimizer=True, against_file=tmp_path / 'before.json'))
    assert asked == [(8 * 32, True, 0, DEVICES['v3'], 'default')]
    assert result['published_ms'] == 73.3
    assert result['parts'] == PARTS
    lines = capsys.readouterr().err.splitlines()
    assert lines[1].split() == ['5,000', '600', '8,000', 'stem']
    assert lines[2].split() == ['1,000', '200', '-', 'AGC']
    assert lines[3].split() == ['6,000', '800', '8,000', 'the', 'whole', 'step']
    assert lines[4].startswith(
        'estimated 6.4 ms at 940 MHz (73.3 ms were published), 25% of the peak, 2.5 GiB'
    )
    assert lines[5] == '0.750 of the cycles before'


def test_of_a_detector_the_share_beside_its_backbone_is_said(tpu, monkeypatch, capsys):
    asked = []

    def estimate(config, device, effort):
        asked.append((config.task, config.model.name, config.model.num_classes, config.train.batch_size))
        parts = {**PARTS, 'detection: pyramid, forward': {'cycles': 2_000_000, 'bytes': 1}}
        return {**ANSWER, 'estimated_cycles': 8_000_000, 'parts': parts}

    monkeypatch.setattr(tpu, 'estimate_step', estimate)
    result = tpu.measure(_setup(tpu, config='coco:ResNet50', classes=80))
    assert asked == [('detection', 'ResNet', 80, 8 * 32)]
    assert 'published_ms' not in result
    assert (
        capsys.readouterr().err.splitlines()[-1] == '25% of the cycles are of detection, besides its backbone'
    )


@pytest.mark.parametrize(
    ('content', 'message'), [(None, 'cannot be read'), ('{', 'cannot be read'), ('[]', 'is not what')]
)
def test_a_file_that_is_none_is_named_before_anything_is_compiled(tpu, tmp_path, content, message):
    path = tmp_path / 'before.json'
    if content is not None:
        path.write_text(content)
    with pytest.raises(InputError, match=f'--against-file={path} {message}'):
        tpu.measure(_setup(tpu, against_file=path))
