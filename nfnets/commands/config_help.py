"""The part of `--help` about configs, networks and every setting.

Settings are shown as `configs/default.py` shows them to its reader: with their comments.
"""

import ast
import io
import shutil
import textwrap
import tokenize
from collections.abc import Iterator

from nfnets.commands.command_line import Parser
from nfnets.commands.config_flags import CONFIGS, load, names
from nfnets.config import check, flatten
from nfnets.configs import default
from nfnets.errors import InputError
from nfnets.models.networks import NETWORKS

_COLUMN = 42  # Where the comment of a setting begins.


class ConfigParser(Parser):
    """A parser whose `--help` lists all that a command takes by `--config`."""

    def format_help(self) -> str:
        width = min(max(shutil.get_terminal_size((100, 24)).columns, 60), 120)
        sections = {
            'Configs, as --config=NAME, --config=NAME:VARIANT or --config=FILE': _configs(width),
            'Networks, as --config.model.name=NAME --config.model.variant=VARIANT': _networks(width),
            'Settings, as --config.GROUP.NAME=VALUE; None follows from others': _settings(width),
        }
        parts = (f'{title}:\n\n' + '\n'.join(lines) for title, lines in sections.items())
        return '\n\n'.join([super().format_help().rstrip(), *parts]) + '\n'


def _configs(width: int) -> Iterator[str]:
    for name in names():
        tree = ast.parse((CONFIGS / f'{name}.py').read_text(encoding='utf-8'))
        yield f'  {name}'
        yield _filled((ast.get_docstring(tree) or '').partition('\n')[0], 6, width)
        if takes := _variants(name, tree):
            yield _filled(f'Variants: {takes}', 6, width)


def _variants(name: str, tree: ast.Module) -> str:
    """The variants that a config accepts after its colon."""
    (function,) = [f for f in tree.body if isinstance(f, ast.FunctionDef) and f.name == 'get_config']
    if not function.args.args:
        return ''
    accepted = []
    for variant in dict.fromkeys([*NETWORKS, *(v for kind in NETWORKS.values() for v in kind.variants)]):
        try:
            check(load(f'{name}:{variant}'))
        except InputError as error:
            refused = str(error)
        else:
            accepted.append(variant)
    # Where some are no names of networks or their variants, the config itself lists them.
    listed = refused.partition('there are ')[2]
    if listed and set(accepted) < set(listed.split(', ')):
        return listed
    return ', '.join(accepted) or refused.rpartition(': ')[2]


def _networks(width: int) -> Iterator[str]:
    for name, kind in NETWORKS.items():
        indent = ' ' * 18
        yield textwrap.fill(f'  {name:15} {", ".join(kind.variants)}', width, subsequent_indent=indent)


def _settings(width: int) -> Iterator[str]:
    known = flatten(default.get_config().to_dict())
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
    source = (CONFIGS / 'default.py').read_text(encoding='utf-8')
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
            comment = [comments[line] for line in range(node.lineno, last + 1) if line in comments]
            yield groups[target.value.id] + target.attr, ' '.join(comment)


def _filled(text: str, indent: int, width: int) -> str:
    return textwrap.fill(text, width, initial_indent=' ' * indent, subsequent_indent=' ' * indent)
