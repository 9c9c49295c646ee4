"""Imports go downward only, so that the code can be read in one direction."""

import ast
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1] / 'nfnets'

# From the bottom up; a module may import what stands above it here, and modules of its own folder.
ORDER = [
    'errors',
    'files',
    'host',
    'pods',
    'interrupts',
    'variants',
    'devices',
    'plan',
    'models',
    'cost',
    'signal_propagation',
    'losses',
    'memory',
    'precision',
    'optim',
    'data',
    'config',
    'saved_config',
    'cli_help',
    'cli',
    'parallel',
    'train_state',
    'train_step',
    'evaluate',
    'checksum',
    'checkpoint',
    'lock',
    'profile',
    'time_use',
    'metrics',
    'ahead',
    'report',
    'weights',
    'build',
    'precheck',
    'finetune',
    'score',
    'predict',
    'page',
    'train',
    'convert',
]


def _part(module: str) -> str:
    return module.split('.')[1]


def _imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module == 'nfnets':
            found |= {f'nfnets.{alias.name}' for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
    return {name for name in found if name.startswith('nfnets.')}


def test_no_module_imports_one_that_stands_after_it():
    files = [path for path in PACKAGE.rglob('*.py') if path != PACKAGE / '__init__.py']
    for path in files:
        part = path.relative_to(PACKAGE).parts[0].removesuffix('.py')
        for imported in _imports(path):
            assert ORDER.index(_part(imported)) <= ORDER.index(part), f'{path.name} -> {imported}'


def test_the_order_names_every_module():
    parts = {p.stem if p.suffix else p.name for p in PACKAGE.iterdir()} - {'__init__', '__pycache__'}
    assert parts == set(ORDER)
