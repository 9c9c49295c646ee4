"""The script that asks whether statistics of batches spoil the accuracy of a run."""

import json

import pytest
import training_runs

from nfnets.errors import InputError

# Those of a run in run/test_processes.py: its programs are compiled once.
SETTINGS = {
    **training_runs.TINY,
    **training_runs.NOT_RANDOM,
    **training_runs.BN_NET,
    'train.batch_size': 48,
    'eval.batch_size': 48,
    'train.steps': 4,
    'eval.every_steps': 4,
}


@pytest.fixture
def script(experiment):
    return experiment('batch_statistics')


def test_a_run_is_evaluated_by_its_statistics_and_by_others(script, tmp_path, monkeypatch, capsys):
    results = training_runs.train(tmp_path, SETTINGS)
    monkeypatch.setattr(script, '_BATCHES', 4)
    capsys.readouterr()
    script.main([str(tmp_path)])
    found = json.loads(capsys.readouterr().out)
    assert found['running'] == pytest.approx(results['eval']['top_1'], abs=1e-6)
    assert found.keys() == {'running', 'of_the_batch', 'of_clean_images', 'of_augmented_images'}
    # After 4 steps most of the running statistics are still those of the initial network.
    assert len(set(found.values())) > 1
    assert all(0 < value < 1 for value in found.values())


def test_a_network_without_statistics_is_refused(script, undisturbed):
    with pytest.raises(InputError, match='without statistics'):
        script.measure(undisturbed[0])
