"""What commands print when all is well, and config files of users."""

import re
import sys

import forge
import pytest

from nfnets.commands import command_line, config_flags
from nfnets.commands.command_line import Parser
from nfnets.config import check, flatten, mixture
from nfnets.configs import default
from nfnets.errors import InputError
from nfnets.models.networks import NETWORKS

OWN = """
from nfnets.configs import default

def get_config(variant='F1'):
    config = default.get_config()
    config.model.variant = variant
    return config
"""


def test_help_lists_every_setting_network_and_config():
    run = forge.start('train', ['--help'], is_apart=True)
    printed, errors = run.communicate(timeout=60)
    assert (run.returncode, errors) == (0, '')
    for key, value in flatten(default.get_config().to_dict()).items():
        assert f'  {key}={str(value).replace(", ", ",")}' in printed
    in_one_line = ' '.join(printed.split())
    for name, kind in NETWORKS.items():
        assert f' {name} {", ".join(kind.variants)}' in in_one_line
    for name in config_flags.names():
        assert f'  {name}\n' in printed
    for part in ('--workdir ', 'baseline, widths', 'Peak rate for each 256 images', 'Variants: B0, B1, B2'):
        assert part in in_one_line


def _parse(*words, fallback=None):
    parser = Parser(None)
    parser.add_argument('--ema', action='store_true')
    return config_flags.parse(parser, words, fallback)


def test_a_config_is_given_by_name_by_file_and_setting_by_setting(tmp_path):
    path = tmp_path / 'own.py'
    path.write_text(OWN)
    for words, variant in (
        (['--config=imagenet:F3'], 'F3'),
        (['--config', 'imagenet:F3'], 'F3'),
        (['-config=imagenet'], 'F0'),
        ([f'--config={path}'], 'F1'),
        ([f'--config={path}:F2+'], 'F2+'),
        ([f'--config={path}', '--config.model.variant=F5'], 'F5'),
    ):
        given, _ = _parse(*words)
        assert given.config.model.variant == variant
        assert given.has_file
    assert not _parse(fallback='default')[0].has_file


def test_settings_have_the_types_of_the_default_ones():
    words = ['--config=digits', '--config.train.steps', '7', '--config.data.flip', '--noconfig.model.scan']
    words += ['--config.model.widths=(8,16)', '--config.model.depths=2', '--config.optimizer.weight_decay=1']
    words += ['--config.data.dir=1', '--config.model.num_classes=None', '--config.sam.rho=1e-2', '--ema']
    given, arguments = _parse(*words)
    expected = {
        'train.steps': 7,
        'data.flip': True,
        'model.scan': False,
        'model.widths': (8, 16),
        'model.depths': (2,),
        'optimizer.weight_decay': 1.0,
        'data.dir': '1',
        'model.num_classes': None,
        'sam.rho': 0.01,
    }
    assert given.overrides == expected
    settings = flatten(given.config.to_dict())
    assert {key: settings[key] for key in expected} == expected
    assert isinstance(settings['optimizer.weight_decay'], float)
    assert arguments.ema


MIXED = """
from nfnets.configs import digits

def get_config():
    config = digits.get_config()
    config.data.mixture = {'web': {'dir': 'x', 'weight': 3}, 'own': {'split': 'eval', 'weight': 1}}
    return config
"""


def test_a_mixture_is_given_by_a_file_and_its_fields_by_flags(tmp_path):
    path = tmp_path / 'mixed.py'
    path.write_text(MIXED)
    words = [f'--config={path}', '--config.data.mixture.web.weight=2.5', '--config.data.mixture.new.dir=z']
    given, _ = _parse(*words, '--config.data.mixture.new.weight', '7')
    digits = {'source': 'digits', 'name': 'imagenet2012'}
    assert mixture(given.config) == {
        'new': {**digits, 'dir': 'z', 'split': 'train', 'weight': 7.0},
        'own': {**digits, 'dir': None, 'split': 'eval', 'weight': 1},
        'web': {**digits, 'dir': 'x', 'split': 'train', 'weight': 2.5},
    }
    assert given.overrides == {
        'data.mixture.web.weight': 2.5,
        'data.mixture.new.dir': 'z',
        'data.mixture.new.weight': 7.0,
    }


@pytest.mark.parametrize(
    ('given', 'message'),
    [
        (
            "{'web': {'wieght': 1}}",
            r'data\.mixture\.web\.wieght: there is no such setting; a source has source,',
        ),
        ("{'web': {'weight': '1'}}", r'data\.mixture\.web\.weight=1 is not allowed: it must be more than 0'),
        ("{'web': 3}", r'data\.mixture\.web=3 is not allowed: it must be a dictionary of source, name, dir'),
    ],
)
def test_a_mixture_in_a_file_is_checked(given, message, tmp_path):
    path = tmp_path / 'mixed.py'
    path.write_text(re.sub('mixture = .*', f'mixture = {given}', MIXED))
    with pytest.raises(InputError, match=message):
        check(_parse(f'--config={path}')[0].config)


def test_an_old_config_gets_an_error_that_names_the_configs_module(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, 'configs', None)  # As outside of the clone.
    (tmp_path / 'old.py').write_text(OWN.replace('nfnets.configs', 'configs'))
    with pytest.raises(InputError, match=r'line 2: .*; write from nfnets\.configs import default'):
        _parse(f'--config={tmp_path / "old.py"}')


@pytest.mark.parametrize(('package', 'extra'), [('tqdm', 'train'), ('pycocotools', 'detection')])
def test_a_package_that_is_missing_is_named_with_what_brings_it(package, extra):
    status, message = command_line._explain(ModuleNotFoundError(name=package))
    assert status == 2
    assert message.startswith(f"{package} is not installed: pip install 'nfnets[{extra}]'")
