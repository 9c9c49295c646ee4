"""The notebook runs from top to bottom, with a small checkpoint in place of the one it names."""

import json
from pathlib import Path

import numpy as np
import tiny_network

from nfnets import Variant
from nfnets.data.preprocessing import Preprocessing
from nfnets.weights.about import About
from nfnets.weights.save import save_checkpoint

NOTEBOOK = Path(__file__).resolve().parents[1] / 'docs' / 'pretrained.ipynb'
FOUR = Variant((16, 16, 32, 32), (1, 1, 1, 1), group_width=8, second_conv=False)


def test_every_cell_of_the_notebook_runs(tmp_path, capsys):
    path = tmp_path / 'four.npz'
    params = tiny_network.params(FOUR, num_classes=1000)
    save_checkpoint(path, 'npz', params, About(None, Preprocessing(64, 8)))
    notebook = json.loads(NOTEBOOK.read_text())
    cells = [''.join(cell['source']) for cell in notebook['cells'] if cell['cell_type'] == 'code']
    assert cells[0].count("CHECKPOINT = 'released:F1'\n") == 1
    cells[0] = cells[0].replace('released:F1', str(path))
    names = {}
    for index, cell in enumerate(cells):
        exec(compile(cell, f'{NOTEBOOK.name}, cell {index}', 'exec'), names)
    printed = capsys.readouterr().out.splitlines()
    assert len([line for line in printed if '%  ' in line]) == 5
    assert '1000 classes, as tench, Tinca tinca' in printed
    assert '(2, 64) [(2, 16, 16, 16), (2, 8, 8, 16), (2, 4, 4, 32), (2, 2, 2, 32)]' in printed
    assert names['saliency'].shape == (64, 64)
    assert np.ptp(names['saliency']) > 0
    assert not any(cell.get('outputs') for cell in notebook['cells'])
