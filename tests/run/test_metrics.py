"""metrics.jsonl and TensorBoard events."""

import json
import resource

import pytest

from nfnets.data.tensorflow import tf
from nfnets.errors import InputError, TrainingStopped
from nfnets.run.metrics import MetricsWriter


def _lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def _events(directory):
    (path,) = directory.glob('events.out.tfevents.*')
    records = tf.data.TFRecordDataset([str(path)]).as_numpy_iterator()
    events = [tf.compat.v1.Event.FromString(record) for record in records]
    return {(e.step, value.tag): value.simple_value for e in events for value in e.summary.value}


def test_scalars_reach_metrics_and_events_alike(tmp_path):
    writer = MetricsWriter(tmp_path, 0)
    writer.write(1, {'train/loss': 2.5, 'learning_rate': 0.125})
    writer.write(2, {'train/loss': 1.5})
    writer.close()
    assert _lines(tmp_path / 'metrics.jsonl') == [
        {'step': 1, 'train/loss': 2.5, 'learning_rate': 0.125},
        {'step': 2, 'train/loss': 1.5},
    ]
    expected = {(1, 'train/loss'): 2.5, (1, 'learning_rate'): 0.125, (2, 'train/loss'): 1.5}
    assert _events(tmp_path) == expected


def test_resuming_drops_the_lines_of_steps_that_run_again(tmp_path):
    path = tmp_path / 'metrics.jsonl'
    path.write_text('{"step": 10, "a": 1}\n{"step": 20, "a": 2}\n{"step": 30, "a": 3}\n{"step": 4')
    MetricsWriter(tmp_path, 20).close()
    assert _lines(path) == [{'step': 10, 'a': 1}, {'step': 20, 'a': 2}]


def test_tensorboard_hides_the_steps_after_the_resumed_one(tmp_path):
    MetricsWriter(tmp_path, 20).close()
    (path,) = tmp_path.glob('events.out.tfevents.*')
    records = tf.data.TFRecordDataset([str(path)]).as_numpy_iterator()
    events = [tf.compat.v1.Event.FromString(record) for record in records]
    assert [e.step for e in events if e.session_log.status == tf.compat.v1.SessionLog.START] == [21]


def test_a_line_that_cannot_be_written_stops_the_run(tmp_path):
    writer = MetricsWriter(tmp_path, 0)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, hard))  # Bytes: as if the disk were full.
    try:
        with pytest.raises(TrainingStopped, match=r'metrics of step 7 cannot be written: .*too large'):
            writer.write(7, {'train/loss': 1.0})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        writer.close()


@pytest.mark.parametrize('content', [b'{"step": 1}\n\xff\xfe', None], ids=['no text', 'a directory'])
def test_metrics_that_cannot_be_read_are_named_and_left(content, tmp_path):
    path = tmp_path / 'metrics.jsonl'
    path.mkdir() if content is None else path.write_bytes(content)
    with pytest.raises(InputError, match=r'metrics\.jsonl cannot be read and written: .*move it away'):
        MetricsWriter(tmp_path, 0)
    assert path.is_dir() if content is None else path.read_bytes() == content


def test_a_value_that_is_not_finite_is_null_in_json(tmp_path):
    writer = MetricsWriter(tmp_path, 0)
    writer.write(1, {'eval/loss': float('nan'), 'eval/top_1': float('inf'), 'eval/top_5': 0.5})
    writer.close()
    expected = '{"step": 1, "eval/loss": null, "eval/top_1": null, "eval/top_5": 0.5}\n'
    assert (tmp_path / 'metrics.jsonl').read_text() == expected
