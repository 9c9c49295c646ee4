"""`scripts/benchmark.py input --against bucket`: its files, and the server that plays the bucket."""

import importlib
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import pytest
import training_runs
from array_record.python.array_record_module import ArrayRecordReader

from nfnets.data.tensorflow import tf


@pytest.fixture
def benchmark(monkeypatch):
    monkeypatch.syspath_prepend(training_runs.ROOT / 'scripts')
    return importlib.import_module('benchmarks.pod_input')


@pytest.fixture
def made_records(benchmark):
    return benchmark.made_records


def _read(address, name, part=None, milliseconds=0):
    request = urllib.request.Request(f'{address}/storage/v1/b/late-{milliseconds}ms/o/{name}?alt=media')
    if part:
        request.add_header('Range', f'bytes={part}')
    with urllib.request.urlopen(request) as answer:
        return answer.read()


def test_the_bucket_gives_parts_late_and_counts_what_waits(benchmark, tmp_path):
    (tmp_path / 'x').write_bytes(b'0123456789')
    with benchmark.bucket.serve(tmp_path) as address:
        parts = {None: b'0123456789', '2-4': b'234', '7-': b'789', '-3': b'789'}
        assert {part: _read(address, 'x', part) for part in parts} == parts
        with pytest.raises(urllib.error.HTTPError, match='404'):
            _read(address, 'y')
        counts = benchmark.bucket.counts(address)
        assert (counts['requests'], counts['at_most']) == (5, 1)
        start = time.perf_counter()
        with ThreadPoolExecutor(4) as pool:
            assert list(pool.map(lambda _: _read(address, 'x', '0-0', 500), range(4))) == [b'0'] * 4
        seconds = time.perf_counter() - start
        assert seconds >= 0.5
        counts = benchmark.bucket.counts(address)
        assert (counts['requests'], counts['at_most']) == (4, 4)
        assert 0 < counts['in_flight'] <= 4


def test_both_forms_hold_the_same_examples(made_records, monkeypatch, tmp_path):
    monkeypatch.setattr('nfnets.planning.core_rate.NUM_IMAGES', 4)
    monkeypatch.setattr(made_records, '_SHARDS', 2)
    monkeypatch.setattr(made_records, '_RECORDS', 3)
    made_records.write(tmp_path)
    examples = []
    for form in made_records.FORMS:
        source = made_records.open_source(str(tmp_path), form)
        examples.append([source.read(index) for index in range(len(source))])
    assert examples[0] == examples[1]
    assert [len(examples[0]), len(set(examples[0]))] == [6, 4]
    assert {tf.io.decode_jpeg(encoded).shape.as_list()[2] for encoded, _ in examples[0]} == {3}
    records = list(tf.data.TFRecordDataset([str(tmp_path / 'tfrecord-00001-of-00002')]).as_numpy_iterator())
    reader = ArrayRecordReader(str(tmp_path / 'array_record-00001-of-00002'))
    assert reader.read_all() == records
    assert [line.split() for line in (tmp_path / 'tfrecord-00001-of-00002.idx').read_text().splitlines()] == [
        [str(sum(len(x) + 16 for x in records[:i])), str(len(records[i]) + 16)] for i in range(3)
    ]


def test_throughput_is_compared_by_its_medians(benchmark):
    turn = {
        'seconds': 0.002,
        'cpu': 0.003,
        'requests': 900,
        'in_flight': 15.04,
        'at_most': 64,
        'cpu_seconds': 0.09,
    }
    rounds = [{**turn, 'seconds': seconds} for seconds in (0.1, 0.0025, 0.001)]
    figures = benchmark._figures(
        {'disk': turn, 'bucket': {**turn, 'seconds': 0.00225}, 'late_bucket': benchmark._medians(rounds)}, 800
    )
    assert figures['disk'] == {'images_per_second': 500, 'cpu_ms_an_image': 3.0}
    assert figures['late_bucket'] == {
        'images_per_second': 400,
        'cpu_ms_an_image': 3.0,
        'server_cpu_ms_an_image': 0.1,
        'requests_in_flight': 15.0,
        'requests_in_flight_at_most': 64,
        'images_read_ahead': 100,
    }
    assert (figures['late_of_disk'], figures['late_of_bucket']) == (0.8, 0.9)
