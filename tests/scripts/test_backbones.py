"""The study of backbones in Mask R-CNN: its runs, the pieces that it pre-trains on, and its table."""

import json

import numpy as np
import pytest
from PIL import Image

from nfnets import config as config_lib
from nfnets.data.load import load_source


@pytest.fixture
def backbones(experiment):
    return experiment('backbones')


def test_each_detector_begins_with_a_classifier_of_the_same_network_and_seed(backbones):
    runs = backbones.all_runs()
    assert len({run.key for run in runs}) == len(runs) == 9
    recipes = set()
    for run in runs:
        configs = []
        for each in (run, run.start):
            config = each.load()
            config_lib.check(config)
            configs.append(config)
        detector, classifier = configs
        assert detector.model == classifier.model
        assert detector.seed == classifier.seed
        recipes.add((detector.train.steps, detector.optimizer.learning_rate, classifier.train.steps))
    assert len(recipes) == 1


def test_pieces_are_written_by_class_in_their_own_size_and_each_split_has_its_own(
    backbones, tmp_path, monkeypatch
):
    def few_pieces(directory, split):
        from pieces import Pieces

        assert directory == tmp_path / 'garments'
        shade = 90 if split == 'train' else 180
        garments = np.full((10, 28, 28), shade, np.uint8)
        digits = np.full((10, 8, 8), shade, np.uint8)
        return Pieces(garments, np.arange(10), digits, np.arange(10, 20), ())

    monkeypatch.setattr(backbones, 'load_pieces', few_pieces)
    monkeypatch.setattr(backbones, '_PIECES', {'train': 400, 'val': 200})
    backbones.write_pieces(tmp_path / 'garments', tmp_path / 'pieces')
    for split, count, shade in (('train', 400, 90), ('val', 200, 180)):
        source = load_source('folder', name='', directory=str(tmp_path / 'pieces'), split=split)
        assert len(source) == count
        for path in (tmp_path / 'pieces' / split).glob('*/*.png'):
            pixels = np.asarray(Image.open(path))
            assert pixels.shape == ((28, 28) if int(path.parent.name) < 10 else (8, 8))
            assert (pixels == shade).all()


def test_the_command_writes_pieces_and_does_all_runs(backbones, monkeypatch, tmp_path, capsys):
    done = []

    def pretend(runs, results, workdir, jobs, data_dirs):
        done.extend(run.key for run in runs)
        assert results.name == 'backbones.jsonl'
        assert data_dirs == {'fashion_mnist': str(tmp_path / 'pieces'), 'scenes': 'DIR'}

    written = []
    monkeypatch.setattr(backbones, 'write_pieces', lambda garments, target: written.append(target))
    monkeypatch.setattr(backbones, 'run_all', pretend)
    backbones.main(['--dir', 'DIR', '--workdir', str(tmp_path), '--results', str(tmp_path)])
    assert written == [tmp_path / 'pieces']
    assert done == [run.key for run in backbones.all_runs()]
    assert capsys.readouterr().out.startswith('| backbone |')


def test_the_table_has_means_over_seeds_in_percent_and_a_detector_that_diverged_finds_nothing(backbones):
    there = {}
    for run, ap in zip(backbones.of_seeds('NF-ResNet'), (0.4, 0.5, None), strict=True):
        measures = {'box_ap': ap, 'box_ap50': 0.8, 'mask_ap': 0.3, 'mask_ap50': 0.7}
        there[run.key] = {**json.loads(run.key), **measures}
        there[run.start.key] = {**json.loads(run.start.key), 'top_1': 0.9}
    rows = backbones.table(there).splitlines()
    of_network = '90.0 ± 0.0 | 30.0 ± 21.6 (1 diverged) | 30.0 ± 0.0 | 80.0 ± 0.0 | 70.0 ± 0.0 |'
    assert rows[0] == '| backbone | top-1 of pieces | box AP | mask AP | box AP50 | mask AP50 |'
    assert rows[3] == f'| NF-ResNet | {of_network}'
    assert rows[2] == '| NFNet |  |  |  |  |  |'
