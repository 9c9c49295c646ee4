"""Classification of images, against the network applied by hand."""

import contextlib
import csv
import dataclasses
import io
import json
import subprocess
import sys

import forge
import jax
import numpy as np
import pytest
import tiny_network
import training_runs
from fake_gcs import FakeGcs
from PIL import Image
from pure_nfnet import make_network, parameter_shapes
from scipy.special import softmax

import nfnets
from nfnets import Weights
from nfnets import config as config_lib
from nfnets.commands import predict
from nfnets.configs import digits
from nfnets.data.augment import normalize
from nfnets.data.decode import decode_eval
from nfnets.data.digits import DigitsSource
from nfnets.data.preprocessing import Preprocessing
from nfnets.data.tensorflow import tf
from nfnets.errors import InputError
from nfnets.inference.predict import Predictor
from nfnets.models import networks
from nfnets.models.variants import NORMALIZER_FREE, RECIPES
from nfnets.run import config_file
from nfnets.weights.about import About
from nfnets.weights.save import save_checkpoint

NAMES = tuple('abcdefghij')


def _weights(about, **settings):
    return Weights('x.npz', 'npz', tiny_network.params(num_classes=10), about, **settings)


def _pictures(folder, count):
    source, paths = DigitsSource('eval'), [folder / f'{index}.png' for index in range(count)]
    for index, path in enumerate(paths):
        path.write_bytes(source.read(index)[0])
    return paths


@pytest.mark.parametrize('activation', ['gelu', 'relu'])
def test_the_likeliest_classes_come_first_with_their_probabilities(activation, tmp_path):
    preprocessing = Preprocessing(32, 3, 'timm')
    weights = _weights(About(NAMES, preprocessing, activation=activation))
    paths = _pictures(tmp_path, 19)  # Two full batches and a part.
    message = list(Predictor(weights).classify(paths, most=3))
    assert [path for path, _ in message] == paths
    images = np.stack([decode_eval(tf.constant(p.read_bytes()), preprocessing).numpy() for p in paths])
    network = make_network(10, tiny_network.VARIANT, activation=activation)
    apply = jax.jit(network.apply, static_argnums=3)
    logits = apply(weights.params, None, normalize(images), False)['logits']
    expected = softmax(np.asarray(logits, np.float64), axis=1)
    for (_, predictions), probabilities in zip(message, expected, strict=True):
        assert [p.label for p in predictions] == list(np.argsort(-probabilities)[:3])
        assert [p.name for p in predictions] == [NAMES[p.label] for p in predictions]
        np.testing.assert_allclose(
            [p.probability for p in predictions], np.sort(probabilities)[:-4:-1], rtol=1e-3
        )


def test_a_working_directory_names_its_network_whichever_it_is(tmp_path):
    config = digits.get_config('ResNet')
    config.model.widths, config.model.depths = (16, 32), (1, 1)
    config = config_lib.complete(config, num_examples=1437, num_classes=10, num_devices=1)
    (tmp_path / 'config.json').write_text(config_file.to_json(config))
    network = networks.make_network('ResNet', 10, config_lib.make_variant(config))
    param_shapes, state_shapes = networks.variable_shapes(network)
    rng = np.random.default_rng(0)
    raw, averaged = (
        (
            jax.tree.map(lambda s: rng.normal(0, 0.2, s.shape).astype(s.dtype), param_shapes),
            jax.tree.map(lambda s: rng.uniform(0.5, 1.5, s.shape).astype(s.dtype), state_shapes),
        )
        for _ in range(2)
    )
    about = About(NAMES, Preprocessing(32, 0))
    weights = Weights(
        tmp_path, 'workdir', raw[0], about, averaged[0], network_state=raw[1], ema_network_state=averaged[1]
    )
    images = rng.uniform(0, 255, (3, 32, 32, 3)).astype(np.float32)
    apply = jax.jit(network.apply, static_argnums=4)
    for ema, (params, state) in {False: raw, True: averaged}.items():
        outputs, _ = apply(params, state, None, normalize(images), False)
        expected = softmax(np.asarray(outputs['logits'], np.float64), axis=1)
        np.testing.assert_allclose(Predictor(weights, ema=ema)(images), expected, rtol=1e-4, atol=1e-6)
    (tmp_path / 'config.json').write_text(config_file.to_json(config).replace('"num_classes"', '"other"'))
    with pytest.raises(InputError, match=r'config\.json is of another version: .*num_classes'):
        Predictor(weights)


def test_images_before_a_broken_one_are_predicted(tmp_path):
    paths = _pictures(tmp_path, 2)
    message = Predictor(_weights(About(NAMES, Preprocessing(32, 0)))).classify([*paths, tmp_path / 'none'])
    assert [next(message)[0], next(message)[0]] == paths
    with pytest.raises(InputError, match='none cannot be read'):
        next(message)


def test_a_variant_fixes_its_preprocessing_and_imagenets_names():
    shapes = parameter_shapes(make_network(1000, 'F0'))
    params = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), shapes)
    predictor = Predictor(Weights('x', 'released', params, About()))
    assert predictor.preprocessing == Preprocessing(RECIPES['F0'].eval_size, 32, 'paper')
    assert predictor.class_names[281].startswith('tabby')


@pytest.mark.parametrize(
    ('kind', 'variant', 'size', 'expected'),
    [
        ('NFNet', 'eca_nfnet_l0', None, Preprocessing(288, 0, 'timm_center')),
        ('NFNet', 'eca_nfnet_l0', 224, Preprocessing(224, 24, 'timm_center')),
        ('NFRegNet', 'nf_regnet_b1', None, Preprocessing(288, 32, 'timm_center')),
    ],
)
def test_timms_own_files_need_no_word_about_their_network(kind, variant, size, expected):
    shapes, _ = networks.variable_shapes(networks.make_network(kind, 1000, variant))
    params = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), shapes)
    weights = Weights('x', 'timm', params, About())
    predictor = Predictor(weights, size=size)
    assert predictor.preprocessing == expected
    weights.check_network(kind, 'silu')
    with pytest.raises(InputError, match=f'model.name={kind}, not BNNet'):
        weights.check_network('BNNet', 'silu')


def test_a_missing_argument_is_named():
    with pytest.raises(InputError, match='give --size'):
        Predictor(_weights(About(NAMES)))
    assert Predictor(_weights(About()), size=32).preprocessing == Preprocessing(32, 32, 'paper')
    light = dataclasses.replace(NORMALIZER_FREE['nfnet_l0'], widths=(16,), depths=(2,), group_width=4)
    shapes, _ = networks.variable_shapes(networks.make_network('NFNet', 10, light))
    params = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), shapes)
    # Unknown by name, but by its blocks; as in evaluation.
    assert Predictor(Weights('x', 'timm', params, About()), size=36).preprocessing == Preprocessing(
        36, 4, 'timm_center'
    )
    assert Predictor(
        _weights(About(None, Preprocessing(32, 5, 'timm'))), size=48
    ).preprocessing == Preprocessing(48, 5, 'timm')
    with pytest.raises(InputError, match='has 10 classes and names for 2'):
        Predictor(_weights(About(('a', 'b'), Preprocessing(32, 0))))
    with pytest.raises(InputError, match='holds no whole NFNet'):
        Predictor(Weights('x', 'npz', {}, About()))


@pytest.mark.parametrize('size', [0, -5])
def test_a_size_below_one_is_refused(size):
    with pytest.raises(InputError, match=rf'size={size}: .* must be 1 px or more'):
        Predictor(_weights(About(NAMES, Preprocessing(32, 0))), size=size)


def test_the_package_itself_has_the_predictor_and_imports_it_only_when_asked():
    assert nfnets.Predictor is Predictor
    assert {'Predictor', 'Prediction'} <= set(nfnets.__all__) & set(dir(nfnets))
    assert nfnets.Prediction(1, 'b', 0.5).name == 'b'
    with pytest.raises(AttributeError, match="'nfnets' has no attribute 'Predicter'"):
        _ = nfnets.Predicter
    command = "import sys, nfnets; assert not {'tensorflow', 'nfnets.inference.predict'} & {*sys.modules}"
    subprocess.run([sys.executable, '-c', command], cwd=training_runs.ROOT, check=True)


def test_images_may_be_strings_or_a_single_path(tmp_path):
    predictor = Predictor(_weights(About(NAMES, Preprocessing(32, 0))))
    paths = _pictures(tmp_path, 2)
    expected = list(predictor.classify(paths))
    message = list(predictor.classify(map(str, paths)))
    assert message == [(str(path), best) for path, best in expected]
    for one in (str(paths[0]), paths[0]):
        ((path, best),) = predictor.classify(one)
        assert (path, [p.label for p in best]) == (one, [p.label for p in expected[0][1]])
    with pytest.raises(InputError, match=r'https://host/a\.jpg .*give a path on a disk or gs://'):
        list(predictor.classify('https://host/a.jpg'))


# ---- As in three lines of Python


@pytest.fixture(scope='module')
def model(checkpoint):
    return nfnets.load(checkpoint)


def _expected(checkpoint, paths):
    """Outputs of the network applied by hand to what evaluation decodes."""
    images = [decode_eval(tf.constant(p.read_bytes()), Preprocessing(32, 0)).numpy() for p in paths]
    network = make_network(10, tiny_network.VARIANT)
    params = nfnets.load_checkpoint(checkpoint).params
    outputs = jax.jit(network.apply, static_argnums=3)(params, None, normalize(np.stack(images)), False)
    return outputs, np.stack(images)


def test_features_are_the_pool_and_the_grids_of_the_network(model, checkpoint, tmp_path):
    paths = _pictures(tmp_path, 3)  # Of a batch of four.
    expected, images = _expected(checkpoint, paths)
    features = model.features(paths)
    assert [grid.shape for grid in features.grids] == [(3, 8, 8, 32), (3, 4, 4, 64)]
    given = (features.pooled, *features.grids)
    for mine, wanted in zip(given, (expected['pool'], *expected['grids']), strict=True):
        np.testing.assert_allclose(mine, wanted, rtol=1e-3, atol=1e-4 * np.abs(wanted).max())
    one = model.features(paths[2])
    assert [x.shape for x in jax.tree.leaves(one)] == [(128,), (8, 8, 32), (4, 4, 64)]
    np.testing.assert_allclose(one.pooled, features.pooled[2], rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(model.preprocess(paths), images)


def test_apply_is_a_function_of_parameters_and_pixels_that_jax_differentiates(model, checkpoint, tmp_path):
    expected, images = _expected(checkpoint, _pictures(tmp_path, 3))
    value_and_grad = jax.value_and_grad(lambda params, x: model.apply(params, x)['logits'].sum())
    value, gradient = jax.jit(value_and_grad)(model.params, images)
    np.testing.assert_allclose(value, np.sum(expected['logits']), rtol=1e-3)
    np.testing.assert_allclose(gradient['NFNet/~/linear']['b'], np.full(10, 3), rtol=1e-6)


def test_an_image_is_a_path_an_array_or_one_of_pillow(model, tmp_path):
    (path,) = _pictures(tmp_path, 1)
    rng = np.random.default_rng(0)
    color = rng.integers(0, 256, (45, 31, 3), np.uint8)
    Image.fromarray(color).save(tmp_path / 'color.png')
    turned = Image.fromarray(color[::-1, ::-1])
    turned.getexif()[0x0112] = 3  # Held upside down.
    gray = np.asarray(Image.open(path))
    given = [str(path), path, Image.open(path), gray, tmp_path / 'color.png', color, turned]
    best = model.predict(given, most=3)
    assert best[0] == best[1] == best[2] == best[3] != best[4]
    assert best[4] == best[5] == best[6]
    np.testing.assert_array_equal(model.preprocess(given)[4:], model.preprocess([color] * 3))
    assert [len(predictions) for predictions in best] == [3] * 7
    assert model.predict(color)[0].label == best[4][0].label
    assert [p[0].label for p in model.predict(np.stack([color] * 2))] == [best[4][0].label] * 2
    assert model.predict([]) == []
    assert model.class_names == ('a, with a comma', *NAMES[1:])
    assert model.preprocessing == Preprocessing(32, 0)


@pytest.mark.parametrize(
    ('image', 'message'),
    [
        (np.zeros((4, 4, 3)), r'an array float64\[4, 4, 3\] is no image: give levels 0\.\.255'),
        (np.zeros((2, 4, 4, 4), np.uint8), r'an array uint8\[4, 4, 4\] is no image'),
        (np.zeros((0, 4, 3), np.uint8), r'an array uint8\[0, 4, 3\] is no image'),
        ([7], '7 is no image: give a path, an image of Pillow or an array'),
    ],
)
def test_what_is_no_image_is_named(model, image, message):
    with pytest.raises(InputError, match=message):
        model.predict(image)
    with pytest.raises(InputError, match='there is no image'):
        model.features([])


def test_a_network_is_loaded_without_tensorflow_and_what_trains(checkpoint):
    command = (
        'import sys, nfnets, numpy as np\n'
        f"model = nfnets.load('{checkpoint}')\n"
        'print(model(np.zeros((1, 32, 32, 3), np.float32)).sum().round(3), len(model.class_names))\n'
        "print({'tensorflow', 'ml_collections', 'PIL', 'orbax', 'tqdm'} & {*sys.modules})"
    )
    run = [sys.executable, '-c', command]
    printed = subprocess.run(run, cwd=training_runs.ROOT, check=True, capture_output=True, text=True).stdout
    assert printed.splitlines() == ['1.0 10', 'set()']


# ---- The script


@pytest.fixture(scope='module')
def checkpoint(tmp_path_factory):
    path = tmp_path_factory.mktemp('checkpoint') / 'x.npz'
    names = ('a, with a comma', *NAMES[1:])
    about = About(names, Preprocessing(32, 0), activation='gelu')
    save_checkpoint(path, 'npz', tiny_network.params(num_classes=10), about)
    return path


@pytest.fixture
def script(checkpoint, monkeypatch, capsys):
    """Runs it on a checkpoint; returns status, output and errors."""
    monkeypatch.setenv('NFNETS_HOST', 'as-is')  # Other tests run in this process.

    def run(*arguments):
        with pytest.raises(SystemExit) as ended:
            predict.main([*map(str, arguments), f'--checkpoint={checkpoint}'])
        return ended.value.code, *capsys.readouterr()

    return run


def test_the_script_prints_a_table_or_lines_of_json_of_a_directory(script, tmp_path):
    paths = [str(path) for path in _pictures(tmp_path, 3)]
    (tmp_path / 'notes.txt').write_text('')
    status, lines, message = script(tmp_path, '--json')
    assert (status, message.count('\n')) == (0, 1)
    assert message.startswith('1 file skipped, of other types than .avif, ')
    by_json = [json.loads(line) for line in lines.splitlines()]
    assert [one['image'] for one in by_json] == paths
    status, table, message = script(f'{tmp_path}/*.png', '--csv')
    assert (status, message) == (0, '')
    header, *rows = csv.reader(io.StringIO(table))
    assert header == ['image', 'rank', 'label', 'name', 'probability']
    assert rows == [
        [one['image'], str(rank), str(p['label']), p['name'], str(p['probability'])]
        for one in by_json
        for rank, p in enumerate(one['predictions'], 1)
    ]
    assert 'a, with a comma' in {row[3] for row in rows}
    assert script(tmp_path, '--csv', '--json')[0] == 2


def test_invalid_input_gives_a_one_line_error(script, tmp_path):
    (image,) = _pictures(tmp_path, 1)
    (tmp_path / 'empty').mkdir()
    for arguments, expected in (
        ((image, '--size=0'), "error: argument --size: '0' must be a whole number of px, 1 px or more\n"),
        ((image, '--size', '-5'), "error: argument --size: '-5' must be"),
        ((image, tmp_path / 'empty'), f'error: {tmp_path}/empty holds no image: '),
        ((f'{tmp_path}/*.jpg',), f'error: {tmp_path}/*.jpg matches no image: '),
        (('https://host/a.jpg',), 'error: https://host/a.jpg '),
    ):
        status, lines, message = script(*arguments)
        assert (status, lines, message.count('\n')) == (2, '', 1)
        assert message.startswith(expected)


def test_images_are_found_in_a_bucket(checkpoint, tmp_path):
    (tmp_path / 'photos' / 'more').mkdir(parents=True)
    _pictures(tmp_path / 'photos', 7)  # More than a page of its listing.
    _pictures(tmp_path / 'photos' / 'more', 2)
    (tmp_path / 'photos' / 'notes.txt').write_text('')
    words = ['--csv', 'gs://bucket/photos', 'gs://bucket/p*/[56].png', f'--checkpoint={checkpoint}']
    with contextlib.closing(FakeGcs(tmp_path / 'gcs')) as server:
        server.upload(tmp_path / 'photos', 'photos')
        run = forge.start('predict', words, changed=server.environment, is_apart=True)
        printed, errors = run.communicate(timeout=120)
    assert run.returncode == 0, errors
    names = [f'{i}.png' for i in range(7)] + ['more/0.png', 'more/1.png', '5.png', '6.png']
    found = [row['image'] for row in csv.DictReader(io.StringIO(printed)) if row['rank'] == '1']
    assert found == [f'gs://bucket/photos/{name}' for name in names]
    assert '1 file skipped' in errors
