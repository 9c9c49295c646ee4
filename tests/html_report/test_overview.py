"""What the overview tells of runs, and that it can be seen on a phone."""

import html as escaping
import json
import shutil
import subprocess
from html.parser import HTMLParser

import jax
import pytest
import small_runs

from nfnets import build
from nfnets.config import network_name
from nfnets.html_report.overview import overview
from nfnets.html_report.write import write_page
from nfnets.models.networks import NETWORKS
from nfnets.run.logged import read_runs

LINES = [
    {'step': 20, 'train/loss': 2.0, 'images_per_second': 90.0, 'time/input': 0.5},
    {'step': 40, 'images_per_second': None, 'time/input': None, 'eval_ema/loss': 0.25},
    {'step': 60, 'images_per_second': 1234.5, 'time/input': 0.0625},
    {'step': 80, 'images_per_second': 1240.0, 'time/input': 0.0},
    {'step': 80, 'eval/top_1': 0.5, 'eval_ema/top_1': 0.75, 'eval_ema/loss': None},
]
OWN = {'model.widths': None, 'model.depths': None, 'model.group_width': None}
# Of an iframe as wide as a phone: the places of the overview's cells from the left, and their columns.
MEASURE = """
addEventListener('load', () => setTimeout(() => {
  const phone = document.querySelector('iframe').contentDocument;
  const cells = [...phone.querySelectorAll('.overview td')].filter((cell) => cell.getClientRects().length);
  const places = cells.map((cell) => {
    const range = phone.createRange();
    range.selectNodeContents(cell);
    const box = range.getBoundingClientRect();
    return [cell.textContent, box.left, box.right];
  });
  document.querySelector('pre').textContent = JSON.stringify(places);
}, 500));
"""


def _cells(section):
    """{column: text} of each run, and the notes."""
    head, *rows = [[''.join(cell.itertext()) for cell in row] for row in section.iter('tr')]
    notes = [p.text for p in section.iter('p') if p.get('class') == 'note']
    return [dict(zip(head, row, strict=True)) for row in rows], notes


def test_a_run_is_listed_with_its_network_and_its_speed(tmp_path):
    workdirs = [small_runs.write(tmp_path / 'run', LINES), small_runs.write(tmp_path / 'new', [])]
    (run, new), notes = _cells(overview(read_runs(workdirs)))
    assert run == {
        'run': 'run',
        'top-1 held out': '50.00%',
        'top-1 EMA': '75.00%',
        'loss EMA': 'not finite',
        'steps': '80 of 400',
        'images/s': '1,234',
        'waiting for input': '6.2%',
        'network': 'NFNet of 1 x 32, 1 x 64',
        'parameters': f'{sum(leaf.size for leaf in jax.tree.leaves(small_runs.params(0))):,}',
        'data': 'digits',
    }
    assert new['images/s'] == new['waiting for input'] == new['top-1 held out'] == '-'
    assert notes == ['new has no metrics yet.']


@pytest.mark.parametrize('name', NETWORKS)
def test_only_a_network_of_its_variant_is_called_by_it(tmp_path, name):
    variant = next(iter(NETWORKS[name].variants))
    settings = {'model.name': name, 'model.variant': variant}
    changes = {'own': OWN, 'other': {'model.group_width': None}, 'width': {**OWN, 'model.widths': (256, 512)}}
    changes['width']['model.depths'] = (1, 2)
    runs = read_runs([small_runs.write(tmp_path / key, LINES, settings | c) for key, c in changes.items()])
    names = [network_name(run.config) for run in runs]
    assert names == [f'{name} {variant}', f'{name} of 1 x 32, 1 x 64', f'{name} of 1 x 256, 2 x 512']


def test_parameters_are_counted(tmp_path):
    (tiny,) = read_runs([small_runs.write(tmp_path / 'tiny', LINES)])
    assert build.num_parameters(tiny.config) == sum(
        leaf.size for leaf in jax.tree.leaves(small_runs.params(0))
    )
    settings = {**OWN, 'model.num_classes': 1000}
    (whole,) = read_runs([small_runs.write(tmp_path / 'whole', LINES, settings)])
    assert f'{build.num_parameters(whole.config) / 1e6:.1f}' == '71.5'  # Of F0, in table 1 of the paper.


def test_every_cell_but_the_runs_name_has_its_columns_beside_it(tmp_path):
    section = overview(read_runs([small_runs.write(tmp_path / 'run', LINES)]))
    head = [''.join(cell.itertext()) for cell in section.iter('th') if cell.get('scope') == 'col']
    assert [cell.get('data-column') for cell in section.iter('td')] == head[1:]


class _Pre(HTMLParser):
    """The text of the one <pre>."""

    inside, text = False, ''

    def handle_starttag(self, tag, attrs):
        self.inside = tag == 'pre'

    def handle_data(self, data):
        self.text += data if self.inside else ''

    def handle_endtag(self, tag):
        self.inside = False


@pytest.mark.skipif(shutil.which('chromium') is None, reason='needs Chromium')
@pytest.mark.parametrize('width', [390, 900, 1200])
def test_a_browser_shows_the_whole_overview(tmp_path, width):
    gone = {'data.source': 'folder', 'data.dir': str(tmp_path / 'gone'), 'data.eval_split': 'val'}
    names = ('a_run_with_quite_a_long_name', 'other')
    write_page(
        [small_runs.write(tmp_path / name, LINES, gone) for name in names],
        tmp_path / 'x.html',
        points=[],
        most_images=1,
    )
    page = escaping.escape((tmp_path / 'x.html').read_text(), quote=True)
    frame = f'<iframe style="border: 0; width: {width}px; height: 900px" srcdoc="{page}"></iframe>'
    (tmp_path / 'frame.html').write_text(f'<!DOCTYPE html>{frame}<pre></pre><script>{MEASURE}</script>')
    command = ['chromium', '--headless', '--no-sandbox', '--disable-gpu', '--window-size=1400,1000']
    command += [f'--user-data-dir={tmp_path / "profile"}', '--virtual-time-budget=5000', '--dump-dom']
    shown = subprocess.run(
        [*command, f'file://{tmp_path / "frame.html"}'], capture_output=True, text=True, timeout=120
    )
    pre = _Pre()
    pre.feed(shown.stdout)
    cells = json.loads(pre.text)
    assert len(cells) == 2 * 9
    assert [text for text, *_ in cells[:2]] == ['50.00%', '75.00%']
    counted = [cell for cell in cells if 'gone' not in cell[0] or width < 1000]  # A path may be cut.
    assert all(0 <= left <= right <= width for _, left, right in counted)
