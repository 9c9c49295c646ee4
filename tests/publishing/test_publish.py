"""What is published of a run: weights, figures and the command; in a directory and in the hub."""

import json
import math
import resource
import shlex

import fake_hub
import forge
import jax
import pytest
import small_runs
import tiny_network
import yaml
from etils import epath

from nfnets import VARIANTS, load_checkpoint
from nfnets.commands import config_flags
from nfnets.commands.command_line import Parser
from nfnets.config import complete
from nfnets.data.preprocessing import Preprocessing
from nfnets.errors import InputError, TrainingStopped
from nfnets.models.variants import NFNETS, NORMALIZER_FREE
from nfnets.publishing.publish import publish
from nfnets.publishing.timm_config import timm_builds, timm_config
from nfnets.run.workdir import read_config
from nfnets.weights.about import About
from nfnets.weights.fit import Architecture
from nfnets.weights.timm import has_names

STEP = small_runs.STEP


def _evaluation(step, **changed):
    values = {'loss': 1.25, 'top_1': 0.5, 'top_5': 0.75, 'num_examples': 360, **changed}
    ema = {**values, 'top_1': values['top_1'] + 0.125}
    sets = {'eval': values, 'eval_ema': ema}
    return {'step': step, **{f'{name}/{key}': v for name, each in sets.items() for key, v in each.items()}}


METRICS = [
    *(_evaluation(step, top_1=0.3 + step / 1000) for step in range(1, STEP)),
    _evaluation(STEP),
    _evaluation(STEP + 10, top_1=0.8),  # After the newest checkpoint: of other parameters.
    {'step': STEP, 'images_per_second': 1234.0},
    {**_evaluation(STEP - 0.5), 'eval/loss': None, 'eval_ema/loss': None},
]


@pytest.fixture(scope='module')
def run(tmp_path_factory):
    path = epath.Path(tmp_path_factory.mktemp('publish') / 'run')
    settings = {
        'data.dir': '/home/me/data',
        'init_from': '/home/me/start.npz',
        'rewind_from': '/home/me/run@5',
        'data.mixture': {'web': {'dir': '/home/me/web', 'weight': 2.0}},
        'probe.dir': '/home/me/probe',
        'optimizer.agc_clipping': math.inf,
    }
    return small_runs.write(path, METRICS, settings, has_checkpoint=True)


@pytest.fixture(scope='module')
def published(run):
    publish(run, str(run.parent / 'digits-net'))
    return run.parent / 'digits-net'


@pytest.mark.parametrize(('raw', 'seed', 'which'), [(False, 1, 'ema'), (True, 0, 'raw')])
def test_the_ema_is_published_or_the_parameters_and_what_goes_with_them(run, raw, seed, which, tmp_path):
    publish(run, str(tmp_path / 'net'), raw=raw)
    weights = load_checkpoint(tmp_path / 'net' / 'model.safetensors')
    tiny_network.assert_same(weights.params, jax.device_get(small_runs.params(seed)))
    assert (weights.about.parameters, weights.about.step) == (which, STEP)
    assert weights.about.class_names == tuple('0123456789')
    assert weights.about.preprocessing.size == 32
    files = {path.name: path.stat().st_mode & 0o777 for path in (tmp_path / 'net').iterdir()}
    assert files.keys() == {'model.safetensors', 'class_names.json', 'settings.json', 'README.md'}
    assert len(set(files.values())) == 1
    assert json.loads((tmp_path / 'net' / 'class_names.json').read_text()) == list('0123456789')


def test_the_card_has_the_figures_of_the_step_that_is_published(published):
    text = (published / 'README.md').read_text()
    head, body = text.removeprefix('---\n').split('\n---\n', maxsplit=1)
    metadata = yaml.safe_load(head)
    assert metadata['library_name'] == 'nfnets'
    assert metadata['pipeline_tag'] == 'image-classification'
    ((result,),) = (entry['results'] for entry in metadata['model-index'])
    assert metadata['model-index'][0]['name'] == 'digits-net'
    assert [(m['name'], m['value']) for m in result['metrics']] == [('top-1', 0.625), ('top-5', 0.75)]
    rows = [
        [cell.strip() for cell in line.strip('| ').split('|')] for line in body.splitlines() if '|' in line
    ]
    assert ['EMA of the parameters', '62.50', '75.00', '1.2500'] in rows
    assert ['parameters', '50.00', '75.00', '1.2500'] in rows
    by_step = [row for row in rows if row[0].isdigit()]
    assert [row[0] for row in by_step] == [str(step) for step in range(4, STEP + 1, 4)]
    assert by_step[0] == ['4', '42.90', '75.00', '1.2500']
    for part in (
        'a training run on a mixture of web with',
        'On the 360 images',
        f'after step {STEP} of 400',
        '1,234 images/s',
        '0, 1, 2, 3',
    ):
        assert part in body
    assert '--checkpoint=digits-net/model.safetensors' in body
    assert 'from the parameters of `start.npz`' in body
    assert 'timm' not in text


def test_the_command_of_the_card_gives_the_config_of_the_run_but_for_its_paths(run, published):
    text = (published / 'README.md').read_text()
    command = text.split('```sh\n')[-1].partition('\n```')[0]
    name, *words = shlex.split(command.replace('\\\n', ' '))
    assert name == 'nfnets-train'
    parser = Parser(None)
    parser.add_argument('--workdir')
    given, _ = config_flags.parse(parser, words)
    assert len(words) < 19
    actual = complete(given.config, num_examples=1437, num_classes=10, num_devices=1).to_dict()
    expected = read_config(run)
    assert (actual['data'].pop('dir'), expected['data'].pop('dir')) == ('DATA', '/home/me/data')
    webs = actual['data']['mixture']['web'], expected['data']['mixture']['web']
    assert tuple(web.pop('dir') for web in webs) == ('DATA', '/home/me/web')
    assert (actual['probe'].pop('dir'), expected['probe'].pop('dir')) == ('DATA', '/home/me/probe')
    assert (actual.pop('rewind_from'), expected.pop('rewind_from')) == ('run@5', '/home/me/run@5')
    assert (actual.pop('init_from'), expected.pop('init_from')) == ('start.npz', '/home/me/start.npz')
    assert json.loads(json.dumps(actual)) == json.loads(json.dumps(expected))


def test_no_path_of_this_machine_is_published(published):
    for path in published.iterdir():
        for own in ('/home/me', str(published.parent)):
            assert own.encode() not in path.read_bytes()


def test_a_run_without_metrics_is_published_without_figures(tmp_path):
    run = small_runs.write(epath.Path(tmp_path / 'run'), [], has_checkpoint=True)
    publish(run, str(tmp_path / 'net'))
    text = (tmp_path / 'net' / 'README.md').read_text()
    assert 'The run evaluated nothing.' in text
    assert 'model-index' not in text


# ------------------------------------------------------- timm


@pytest.mark.parametrize('name', ['F0', 'F6', 'F7'])
def test_timms_config_names_its_architecture_and_what_differs(name):
    variant = VARIANTS[name]
    about = About(('cat', 'dog'), Preprocessing(320, 32), 'silu', train_size=256)
    network = Architecture(name, variant, 2, 'NFNet', name)
    config = timm_config(network, about)
    assert timm_builds(network)
    depths = {'depths': (8, 16, 48, 24)} if name == 'F7' else {}
    assert config['architecture'] == {'F0': 'dm_nfnet_f0', 'F6': 'dm_nfnet_f6', 'F7': 'dm_nfnet_f0'}[name]
    assert config['model_args'] == {'act_layer': 'silu', 'std_conv_eps': 1e-12, **depths}
    assert (config['num_classes'], config['num_features']) == (2, 3072)
    assert config['label_names'] == ('cat', 'dog')
    assert config['pretrained_cfg']['input_size'] == (3, 256, 256)
    assert config['pretrained_cfg']['test_input_size'] == (3, 320, 320)


def test_timm_resizes_to_the_size_with_its_margin():
    for size in range(8, 700):
        for margin in (0, 1, 32):
            config = timm_config(
                Architecture('F0', VARIANTS['F0'], 2, 'NFNet', 'F0'),
                About(preprocessing=Preprocessing(size, margin)),
            )
            assert (
                math.floor(size / config['pretrained_cfg']['crop_pct']) == size + margin
            )  # As timm computes it.


def test_a_network_that_timm_lacks_has_no_config_for_it():
    assert not timm_builds(Architecture('F0+', VARIANTS['F0+'], 2, 'NFNet', 'F0+'))
    assert not timm_builds(Architecture(None, tiny_network.VARIANT, 2, 'NFNet', 'F0'))


@pytest.mark.parametrize(
    ('kind', 'name', 'expected'),
    [('NFRegNet', 'B0', False), ('NFRegNet', 'nf_regnet_b1', True), ('NFResNet', 'ResNet50', False)],
)
def test_timm_has_no_names_for_networks_that_it_lacks(kind, name, expected):
    assert has_names(Architecture(name, NORMALIZER_FREE[name], 2, kind, name)) == expected


def test_timms_own_network_goes_by_its_name_with_its_own_preprocessing():
    network = Architecture('eca_nfnet_l1', NFNETS['eca_nfnet_l1'], 2, 'NFNet', 'eca_nfnet_l1')
    config = timm_config(
        network, About(preprocessing=Preprocessing(320, 0, 'timm_center'), activation='silu')
    )
    assert timm_builds(network)
    assert config['architecture'] == 'eca_nfnet_l1'
    assert 'model_args' not in config  # Its own activation and epsilon.
    assert config['pretrained_cfg']['crop_mode'] == 'center'


# ------------------------------------------------------- The hub


@pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")  # Of httpx2, to huggingface_hub.
def test_a_run_goes_to_the_hub_and_comes_from_there_by_name(run, published, hub_server, monkeypatch):
    with pytest.raises(InputError, match='hf:me/nets cannot be written: set HF_TOKEN'):
        publish(run, 'hf:me/nets')
    monkeypatch.setenv('HF_TOKEN', fake_hub.TOKEN)
    for _ in range(2):  # Into a new repository, and into one that is there.
        url = publish(run, 'hf:me/nets')
        assert url == f'{hub_server.endpoint}/me/nets/commit/{fake_hub.COMMIT}'
    files = hub_server.repos['me/nets']
    assert files.keys() == {path.name for path in published.iterdir()}
    assert '--checkpoint=hf:me/nets\n' in files['README.md'].decode()
    assert '# nets\n' in files['README.md'].decode()
    weights = load_checkpoint('hf:me/nets')
    tiny_network.assert_same(weights.params, jax.device_get(small_runs.params(1)))
    assert weights.about == load_checkpoint(published / 'model.safetensors').about


@pytest.mark.parametrize(
    ('status', 'kind', 'message'),
    [(403, InputError, '403 Forbidden'), (501, TrainingStopped, '501 .*; the same command may')],
)
def test_a_hub_that_refuses_costs_one_line(run, hub_server, monkeypatch, status, kind, message):
    monkeypatch.setenv('HF_TOKEN', fake_hub.TOKEN)
    hub_server.status = status
    with pytest.raises(kind, match=f'hf:me/nets cannot be written: .*{message}'):
        publish(run, 'hf:me/nets')
    assert not hub_server.repos


# ------------------------------------------------------- What may go wrong


@pytest.mark.parametrize(
    ('to', 'message'),
    [
        ('{}/run', 'run exists already and is not empty'),
        ('{}/run/config.json', 'exists already'),
        ('{}/nowhere/net', '--to=.*/nowhere/net cannot be written: No such file'),
        ('gs://bucket/net', '--to=gs://bucket/net must be a directory on a disk, or hf:OWNER/NAME'),
        ('hf:nets', 'hf:nets is no name'),
        ('hf:me/nets/file', '--to=hf:me/nets/file must be hf:OWNER/NAME'),
    ],
)
def test_a_target_that_cannot_be_used_is_named(run, to, message):
    before = sorted(path.name for path in run.parent.iterdir())
    with pytest.raises(InputError, match=message):
        publish(run, to.format(run.parent))
    assert sorted(path.name for path in run.parent.iterdir()) == before


def test_a_disk_that_is_full_costs_one_line_and_leaves_nothing(run, tmp_path):
    words = [run, '--to', tmp_path / 'net']
    process = forge.start('publish', words, before=_fill_the_disk, is_apart=True)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 2, errors
    assert [
        line for line in errors.splitlines() if line.startswith('error: ') and 'cannot be written' in line
    ]
    assert not list(tmp_path.iterdir())


def _fill_the_disk():
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
