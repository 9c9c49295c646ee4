"""What `--help` prints: the flags, the config files, the networks, and every setting.

The settings are told as `configs/default.py` tells them to who reads it: with their comments.
"""

import ast
import importlib
import io
import shutil
import sys
import textwrap
import tokenize
from collections.abc import Iterator
from pathlib import Path

import ml_collections
from absl import flags

from nfnets.config import check, flatten
from nfnets.errors import InputError
from nfnets.models.networks import NETWORKS

CONFIGS = Path(__file__).resolve().parents[1] / 'configs'
_DEFAULT = CONFIGS / 'default.py'
_COLUMN = 42  # Where what is said of a setting begins.


def help_text(settings: ml_collections.ConfigDict) -> str:
    """Everything that can be given to the script that runs.

    Args:
      settings: those of `configs/default.py`.
    """
    width = min(max(shutil.get_terminal_size((100, 24)).columns, 60), 120)
    sections = {
        'Flags': flags.FLAGS.main_module_help().partition('\n')[2].strip('\n'),
        'Config files, as --config=FILE or --config=FILE:VARIANT': '\n'.join(_config_files(width)),
        'Networks, as --config.model.name=NAME --config.model.variant=VARIANT': '\n'.join(_networks(width)),
        'Settings, as --config.GROUP.NAME=VALUE; None follows from others': '\n'.join(
            _settings(settings, width)
        ),
    }
    told = (sys.modules['__main__'].__doc__ or '').strip()
    return '\n\n'.join([told, *(f'{title}:\n\n{text}' for title, text in sections.items())])


def _config_files(width: int) -> Iterator[str]:
    for path in sorted(CONFIGS.glob('*.py')):
        tree = ast.parse(path.read_text(encoding='utf-8'))
        yield f'  configs/{path.name}'
        yield _filled((ast.get_docstring(tree) or '').partition('\n')[0], 6, width)
        if takes := _variants(path.stem):
            yield _filled(f'Variants: {takes}', 6, width)


def _variants(name: str) -> str:
    """What a config file takes after its colon, by asking it."""
    get_config = importlib.import_module(f'configs.{name}').get_config
    if not get_config.__code__.co_argcount:
        return ''
    names = dict.fromkeys([*NETWORKS, *(v for kind in NETWORKS.values() for v in kind.variants)])
    accepted = []
    for variant in names:
        try:
            check(get_config(variant))
        except InputError as error:
            refused = str(error)
        else:
            accepted.append(variant)
    # Where they are no names of networks or their variants, the file tells them itself.
    return ', '.join(accepted) or refused.partition('there are ')[2] or refused.rpartition(': ')[2]


def _networks(width: int) -> Iterator[str]:
    for name, kind in NETWORKS.items():
        indent = ' ' * 18
        yield textwrap.fill(f'  {name:15} {", ".join(kind.variants)}', width, subsequent_indent=indent)


def _settings(settings: ml_collections.ConfigDict, width: int) -> Iterator[str]:
    known = flatten(settings.to_dict())
    group = ''
    for key, comment in _comments():
        if key is None:
            yield _filled(comment, 2, width)
            continue
        if key.rpartition('.')[0] != group:
            group = key.rpartition('.')[0]
            yield ''
        given = f'  {key}={str(known[key]).replace(", ", ",")}'
        indent = ' ' * _COLUMN
        text = textwrap.fill(comment, width, initial_indent=indent, subsequent_indent=indent)
        yield f'{given:{_COLUMN}}{text.lstrip()}'.rstrip() if len(given) < _COLUMN else f'{given}\n{text}'


def _comments() -> Iterator[tuple[str | None, str]]:
    """Each setting with its comment, and with None comments that stand alone, in the order of the source."""
    source = _DEFAULT.read_text(encoding='utf-8')
    tokens = list(tokenize.generate_tokens(io.StringIO(source).readline))
    comments = {t.start[0]: t.string.lstrip('# ') for t in tokens if t.type == tokenize.COMMENT}
    function = next(node for node in ast.parse(source).body if isinstance(node, ast.FunctionDef))
    groups = {'config': ''}
    last = function.lineno
    for node in function.body:
        alone = [comments[line] for line in range(last + 1, node.lineno) if line in comments]
        last = node.end_lineno or node.lineno
        if not isinstance(node, ast.Assign):
            continue
        if alone:
            yield None, ' '.join(alone)
        target, *others = node.targets
        if not isinstance(target, ast.Attribute) or not isinstance(target.value, ast.Name):
            continue
        if others:  # config.model = model = ConfigDict()
            groups.update({other.id: f'{target.attr}.' for other in others if isinstance(other, ast.Name)})
        else:
            said = [comments[line] for line in range(node.lineno, last + 1) if line in comments]
            yield groups[target.value.id] + target.attr, ' '.join(said)


def _filled(text: str, indent: int, width: int) -> str:
    return textwrap.fill(text, width, initial_indent=' ' * indent, subsequent_indent=' ' * indent)
