"""The study of speed: its runs, its table and its figure."""

import pytest

from nfnets import config as config_lib


@pytest.fixture
def speed(experiment):
    return experiment('speed')


def _there(speed):
    """An NFNet that reaches the target after its second epoch, and a twin that does not."""
    there = {}
    for network, accuracies in (('NFNet', (0.7, 0.85, 0.9)), ('BNNet', (0.5, 0.6, 0.7))):
        evaluations = [[speed._EPOCH * epoch, top_1] for epoch, top_1 in enumerate(accuracies, start=1)]
        training = {'top_1': accuracies[-1], 'evaluations': evaluations, 'images_per_second': 1.0}
        there[speed.training(network, 'narrow').key] = training
        for turn, rate in enumerate((50.0, 9000.0, 100.0)):
            there[speed.timing(network, 'narrow', turn).key] = {'images_per_second': rate}
    return there


def test_runs_are_valid_and_those_that_are_timed_differ_in_length_and_seed_alone(speed):
    for network in speed.NETWORKS:
        for width in speed.WIDTHS:
            runs = [speed.training(network, width), *(speed.timing(network, width, n) for n in range(3))]
            assert len({run.key for run in runs}) == 4
            configs = []
            for run in runs:
                config = run.load()
                config_lib.check(config)
                config.update_from_flattened_dict({'seed': 0, 'train.steps': 1, 'eval.every_steps': 1})
                configs.append(config.to_json())
            assert len(set(configs)) == 1


def test_minutes_are_of_the_steps_up_to_the_target_at_the_median_speed_of_the_rounds(speed):
    rows = speed.table(_there(speed)).splitlines()[2:]
    # Two epochs of 937 steps of 64 images at 100 images/s are 19.99 minutes.
    assert rows[0] == '| NFNet | narrow | 100 | 2 | 20.0 | 90.0 |'
    assert rows[1] == '| NFNet with batch norm | narrow | 100 |  |  | 70.0 |'
    assert len(rows) == 2  # Nothing of networks that lack a run.


def test_the_command_trains_all_then_times_one_at_a_time(speed, monkeypatch, tmp_path, capsys):
    calls = []

    def pretend(runs, results, workdir, jobs, data_dirs):
        calls.append(([run.key for run in runs], jobs))
        assert (results.name, workdir, data_dirs) == ('speed.jsonl', tmp_path, {'fashion_mnist': 'DATA'})

    monkeypatch.setattr(speed, 'run_all', pretend)
    directories = ['--workdir', str(tmp_path), '--results', str(tmp_path)]
    speed.main(['--dir', 'DATA', *directories, '--jobs', '3', '--plot', str(tmp_path / 'speed.png')])
    (trained, trained_at_once), (timed, timed_at_once) = calls
    assert (trained_at_once, timed_at_once) == (3, 1)
    pairs = len(speed.NETWORKS) * len(speed.WIDTHS)
    assert (len(set(trained)), len(set(timed))) == (pairs, 3 * pairs)
    assert capsys.readouterr().out.startswith('| network | widths |')
    assert (tmp_path / 'speed.png').stat().st_size > 1000


def test_the_figure_shows_milliseconds_for_32_images(speed, tmp_path):
    (point, _) = speed.points(_there(speed))
    assert point.milliseconds == pytest.approx(320.0)
    speed.draw(_there(speed), tmp_path / 'plots' / 'speed.png')
    assert (tmp_path / 'plots' / 'speed.png').stat().st_size > 1000
