"""Exported networks, run in their runtimes, against the network itself."""

import importlib
import json
import subprocess
import sys
from collections import Counter

import jax
import jax.numpy as jnp
import numpy as np
import onnx
import onnxruntime
import pytest
import tiny_network
from etils import epath
from numpy_operations import NumPy
from pure_nfnet import make_network

from nfnets import Variant, Weights
from nfnets.data.augment import normalize
from nfnets.data.preprocessing import Preprocessing
from nfnets.data.tensorflow import tf
from nfnets.errors import InputError
from nfnets.export import onnx as onnx_form
from nfnets.export import stablehlo, write
from nfnets.folding.fold import fold
from nfnets.folding.run import run
from nfnets.inference.classifier import make_classifier
from nfnets.models import networks
from nfnets.weights.about import About

SIZE = 32
NAMES = tuple('abcdefghij')
ABOUT = About(NAMES, Preprocessing(SIZE, 3, 'timm'))
VARIANT = Variant((16, 32), (1, 2), group_width=8)
FRESH = """
import sys, numpy as np
{usage}
np.save(sys.argv[2], logits)
assert not any(name.startswith('nfnets') for name in sys.modules)
"""


@pytest.fixture(scope='module')
def params():
    return tiny_network.params(VARIANT, num_classes=10)


@pytest.fixture(scope='module')
def pixels():
    return np.random.default_rng(1).integers(0, 256, (5, SIZE, SIZE, 3), np.uint8)


@pytest.fixture(scope='module')
def expected(params, pixels):
    apply = jax.jit(make_network(10, VARIANT).apply, static_argnums=3)
    return np.asarray(apply(params, None, normalize(jnp.asarray(pixels)), False)['logits'])


def _export(params, target, form, precision='float32', from_pixels=True):
    classifier = make_classifier(Weights(epath.Path('x.npz'), 'npz', params, ABOUT))
    write.check_target(target, form, precision)
    return write.export(classifier, ABOUT, target, form, precision=precision, from_pixels=from_pixels)


def _difference(actual, expected):
    return np.max(np.abs(actual - expected)) / np.max(np.abs(expected))


def _run(usage, target, images):
    """The logits by the lines that users are shown."""
    given = {'images': images}
    exec(usage.format(target=str(target)), given)
    return np.asarray(given['logits'])


@pytest.fixture(scope='module')
def exported(params, tmp_path_factory):
    """A directory with a network of pixels in every form, and what was said of each."""
    directory = tmp_path_factory.mktemp('exported')
    return directory, {form: _export(params, directory / form, form) for form in write.FORMS}


@pytest.mark.parametrize('form', write.FORMS)
def test_what_is_written_gives_our_logits_for_any_number_of_images(form, exported, pixels, expected):
    directory, done = exported
    files = [p for path in directory.glob(f'{form}*') for p in (path, *path.rglob('*')) if p.is_file()]
    assert done[form].num_bytes == sum(p.stat().st_size for p in files)
    assert 0 < done[form].difference < 1e-5
    for count in (5, 1):
        logits = _run(write.FORMS[form].usage, directory / form, pixels[:count])
        assert logits.dtype == np.float32
        assert _difference(logits, expected[:count]) < 1e-5
    assert not list(directory.glob('*.tmp'))


def test_normalized_images_are_taken_too(params, pixels, expected, tmp_path):
    _export(params, tmp_path / 'net', 'onnx', from_pixels=False)
    images = np.asarray(normalize(jnp.asarray(pixels)))
    assert _difference(_run(write.FORMS['onnx'].usage, tmp_path / 'net', images), expected) < 1e-5


def test_stablehlo_runs_in_a_process_with_jax_alone(exported, pixels, expected, tmp_path):
    np.save(tmp_path / 'images.npy', pixels)
    usage = write.FORMS['stablehlo'].usage.format(target=str(exported[0] / 'stablehlo'))
    program = FRESH.replace('{usage}', 'images = np.load(sys.argv[1])\n' + usage)
    command = [sys.executable, '-c', program, tmp_path / 'images.npy', tmp_path / 'logits.npy']
    subprocess.run(command, check=True)
    assert _difference(np.load(tmp_path / 'logits.npy'), expected) < 1e-5


def test_stablehlo_has_plain_convolutions_for_every_platform(exported):
    network = jax.export.deserialize(bytearray((exported[0] / 'stablehlo').read_bytes()))
    assert network.platforms == ('cpu', 'cuda', 'tpu')
    program = network.mlir_module()
    # Of stem, blocks, shortcuts, the end; linear layers are 1x1 ones. JAX writes each once for a platform.
    assert program.count('stablehlo.convolution') == 3 * (4 + 3 * (4 + 2) + 2 + 1 + 1)
    assert 'dot_general' not in program


def test_class_names_and_preprocessing_go_with_every_form(exported):
    directory, _ = exported
    session = onnxruntime.InferenceSession(directory / 'onnx')
    found = [session.get_modelmeta().custom_metadata_map['nfnets']]
    beside = ('stablehlo.json', 'saved_model/assets.extra/nfnets.json')
    found += [(directory / name).read_text() for name in beside]
    for metadata in map(json.loads, found):
        assert metadata['class_names'] == list(NAMES)
        assert metadata['preprocessing'] == {'size': SIZE, 'margin': 3, 'style': 'timm'}
        assert metadata['images'] == 'pixels, uint8'
    names = tf.saved_model.load(directory / 'saved_model').class_names()
    assert [name.decode() for name in names.numpy()] == list(NAMES)


def test_onnx_of_f0_has_hardly_more_nodes_than_the_network_has_layers(tmp_path):
    params = tiny_network.params(Variant((16, 32, 32, 32), (1, 2, 6, 3), group_width=8), num_classes=10)
    classifier = make_classifier(Weights(epath.Path('x.npz'), 'npz', params, ABOUT))
    graph = classifier.fold(from_pixels=True)
    onnx_form.write(tmp_path / 'net', graph, np.dtype(np.uint8), {}, tmp_path / 'net.data')
    nodes = Counter(node.op_type for node in onnx.load(tmp_path / 'net').graph.node)
    convolutions, linears = 4 + 12 * 4 + 4 + 1, 12 * 2 + 1
    activations, pools = 3 + 12 * 4 + 1 + 12 * 2, 3 + 12 + 1
    assert nodes['Conv'] == convolutions + linears
    assert nodes.total() <= 1.2 * (convolutions + linears + activations + pools)
    assert nodes.total() == 202


@pytest.mark.parametrize('form', write.FORMS)
@pytest.mark.parametrize('name', ['FixupResNet', 'NFRegNet'])
def test_every_operation_is_there(form, name, tmp_path):
    # Shifts, pools of maxima, and of means whose last windows are cut off; another activation.
    network = networks.make_network(name, 10, Variant((16, 32), (1, 1), group_width=4))
    rng = np.random.default_rng(0)
    shapes = networks.variable_shapes(network)
    variables = jax.tree.map(lambda s: np.float32(rng.normal(0.2, 0.3, s.shape)), shapes)
    graph = fold(network, variables, 20, from_pixels=False)
    images = rng.standard_normal((2, 20, 20, 3), np.float32)
    runtime = importlib.import_module(f'nfnets.export.{form}')
    metadata = {'class_names': list(NAMES)}
    runtime.write(
        tmp_path / 'net', graph, images.dtype, metadata, *write.FORMS[form].files_beside(tmp_path / 'x')
    )
    assert _difference(runtime.run(tmp_path / 'net', images), run(graph, NumPy(), images)) < 3e-6


@pytest.mark.parametrize(
    ('form', 'precision'),
    [('stablehlo', 'bfloat16'), ('saved_model', 'bfloat16'), ('onnx', 'float16')],
)
def test_lower_precisions_say_their_error(form, precision, params, pixels, expected, tmp_path):
    done = _export(params, tmp_path / 'net', form, precision)
    logits = _run(write.FORMS[form].usage, tmp_path / 'net', pixels)
    unit = float(jnp.finfo(precision).eps)
    assert unit / 100 < _difference(logits, expected) < 10 * unit
    assert unit / 100 < done.difference < 10 * unit
    assert done.num_bytes < 3.5 * sum(x.size for x in jax.tree.leaves(params)) + 500_000


def test_what_overflows_is_refused_and_leaves_nothing(params, tmp_path):
    stem = {name: x * np.float32(1e4) for name, x in params['NFNet/~/stem_conv0'].items()}
    with pytest.raises(InputError, match='float16 overflows'):
        _export({**params, 'NFNet/~/stem_conv0': stem}, tmp_path / 'net', 'saved_model', 'float16')
    assert not list(tmp_path.iterdir())


def test_a_target_is_refused_before_any_work(tmp_path, monkeypatch):
    (tmp_path / 'net.json').touch()
    with pytest.raises(InputError, match=r'net\.json exists already'):
        write.check_target(tmp_path / 'net', 'stablehlo', 'float32')
    monkeypatch.setattr(write.importlib.util, 'find_spec', lambda name: None)
    with pytest.raises(InputError, match=r"onnx is not installed: pip install 'nfnets\[export\]'"):
        write.check_target(tmp_path / 'net', 'onnx', 'float32')


def test_too_many_weights_for_one_file_lie_beside_it_or_are_refused(params, pixels, tmp_path, monkeypatch):
    for module in (onnx_form, stablehlo):
        monkeypatch.setattr(module, 'MOST_BYTES', 20_000)
    assert _export(params, tmp_path / 'net', 'onnx').difference < 1e-5
    assert sorted(path.name for path in tmp_path.iterdir()) == ['net', 'net.data']
    assert (tmp_path / 'net.data').stat().st_size > (tmp_path / 'net').stat().st_size
    with pytest.raises(InputError, match='give another --precision'):
        _export(params, tmp_path / 'other', 'stablehlo')
