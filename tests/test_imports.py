"""Imports go downward only, so that the code can be read in one direction; and the house stays in order."""

import ast
import graphlib
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / 'nfnets'
FOLDERS = sorted(path.parent for path in PACKAGE.rglob('__init__.py') if path.parent != PACKAGE)

# From the bottom up; a module may import what stands above it here, and modules of its own folder.
ORDER = [
    'errors',
    'files',
    'host',
    'models',
    'losses',
    'parallel',
    'optim',
    'data',
    'detection',
    'folding',
    'config_rules',
    'config',
    'train_state',
    'train_step',
    'evaluation',
    'run',
    'weights',
    'finetune',
    'tasks',
    'build',
    'planning',
    'inference',
    'export',
    'html_report',
    'publishing',
    'train',
    'commands',
]
# The configs are above what they are made of, and below what names one of them.
CONFIGS, WITH_CONFIGS = 'configs', ('planning', 'inference', 'publishing', 'commands')


def _imports(path):
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f'{node.module}.{alias.name}' for alias in node.names)}
    return found


def _part(path):
    return path.relative_to(PACKAGE).parts[0].removesuffix('.py')


def test_no_module_imports_one_that_stands_after_it():
    for path in [path for path in PACKAGE.rglob('*.py') if path != PACKAGE / '__init__.py']:
        for imported in _imports(path):
            package, _, rest = imported.partition('.')
            if package == 'nfnets' and rest:
                part = rest.partition('.')[0]
                allowed = WITH_CONFIGS if part == CONFIGS else ORDER[ORDER.index(part) :]
                assert _part(path) in allowed, f'{path.relative_to(ROOT)} -> {imported}'


def test_no_module_imports_itself_by_way_of_others():
    modules = {'.'.join(path.relative_to(ROOT).with_suffix('').parts): path for path in PACKAGE.rglob('*.py')}
    graph = {module: _imports(path) & modules.keys() for module, path in modules.items()}
    graphlib.TopologicalSorter(graph).prepare()  # Raises an error that shows the circle.


def test_the_order_names_every_module():
    parts = {p.stem if p.suffix else p.name for p in PACKAGE.iterdir()} - {'__init__', '__pycache__'}
    assert parts == set(ORDER)


def test_the_top_of_the_package_can_be_seen_at_a_glance():
    assert len(list(PACKAGE.glob('*.py'))) <= 14


@pytest.mark.parametrize('folder', FOLDERS, ids=lambda folder: folder.name)
def test_each_folder_states_its_one_purpose(folder):
    doc = ast.get_docstring(ast.parse((folder / '__init__.py').read_text()))
    assert doc is not None
    assert doc.count('\n') <= 3


def test_scripts_are_imported_by_nobody_else_and_no_path_is_changed():
    scripts = {path.stem for path in (ROOT / 'scripts').rglob('*.py')} | {'scripts'}
    for path in [*PACKAGE.rglob('*.py'), *(ROOT / 'configs').glob('*.py')]:
        assert not {name.partition('.')[0] for name in _imports(path)} & (scripts - {'nfnets'}), path
    for folder in ('nfnets', 'configs', 'scripts'):
        for path in (ROOT / folder).rglob('*.py'):
            assert not re.search(r'sys\.path\b', path.read_text()), path
