"""Invalid input costs one line that names it and what is allowed, and writes nothing."""

import io
import shlex
from pathlib import Path

import forge
import pytest

ROOT = Path(__file__).resolve().parents[2]
_PATIENCE = 60  # Seconds that a case may take.


# ----------------------------------------------------------------- Settings that training refuses by name
SETTINGS = [
    # Not of the right type.
    ('train.batch_size=many', 'a whole number'),
    ('train.batch_size=1.5', 'a whole number'),
    ('train.batch_size=', 'a whole number'),
    ('train.steps=1e3', 'a whole number'),
    ('checkpoint.keep=None', 'a whole number'),
    ('optimizer.momentum=high', 'a number'),
    ('optimizer.learning_rate=0,1', 'a number'),
    ('data.flip=yes', 'True or False'),
    ('model.second_conv=2', 'True or False'),
    ('model.widths=abc', 'whole numbers above 0, one for each stage, as in (256,512)'),
    ('model.widths=64;128', 'whole numbers above 0, one for each stage, as in (256,512)'),
    ('model.depths=(1,two)', 'whole numbers above 0, one for each stage, as in (256,512)'),
    ('data.crop_area=whole', 'two fractions above 0 and up to 1, the smaller first'),
    # Not in range.
    ('seed=-1', '0 or more and finite'),
    ('model.dropout_rate=1', 'from 0 to below 1'),
    ('model.stochastic_depth_rate=1.5', 'from 0 to 1'),
    ('model.num_classes=0', 'more than 0'),
    ('model.group_width=-8', 'more than 0'),
    ('data.train_size=0', 'more than 0'),
    ('data.eval_size=-32', 'more than 0'),
    ('data.eval_margin=-1', '0 or more'),
    ('data.crop_area=(0.5, 2)', 'two fractions above 0 and up to 1, the smaller first'),
    ('augment.mixup_alpha=-0.2', '0 or more'),
    ('augment.randaugment_layers=-1', '0 or more'),
    ('augment.randaugment_magnitude=31', 'from 0 to 30'),
    ('train.batch_size=0', 'more than 0'),
    ('train.accumulate_steps=0', 'more than 0'),
    ('train.epochs=0', 'more than 0'),
    ('train.steps=-5', 'more than 0'),
    ('train.label_smoothing=1', 'from 0 to below 1'),
    ('train.log_every_steps=0', 'more than 0'),
    ('optimizer.warmup_epochs=-1', '0 or more'),
    ('optimizer.momentum=1', 'from 0 to below 1'),
    ('optimizer.agc_clipping=0', 'more than 0; inf is no limit'),
    ('optimizer.agc_eps=0', 'more than 0'),
    ('optimizer.max_grad_norm=-1', 'more than 0; inf is no limit'),
    ('optimizer.lars_trust=-1', '0 or more'),
    ('optimizer.ema_decay=1.1', 'from 0 to 1'),
    ('sam.rho=-0.05', '0 or more'),
    ('sam.ascent_fraction=0', 'above 0 and up to 1'),
    ('eval.batch_size=0', 'more than 0'),
    ('eval.every_steps=0', 'more than 0'),
    ('checkpoint.every_steps=0', 'more than 0'),
    ('checkpoint.keep=0', 'more than 0'),
    # NaN and infinity.
    ('optimizer.learning_rate=nan', 'more than 0 and finite'),
    ('optimizer.learning_rate=inf', 'more than 0 and finite'),
    ('optimizer.weight_decay=nan', '0 or more and finite'),
    ('optimizer.agc_clipping=nan', 'more than 0; inf is no limit'),
    ('optimizer.ema_decay=nan', 'from 0 to 1'),
    ('optimizer.warmup_steps=inf', '0 or more and finite'),
    ('train.epochs=inf', 'more than 0 and finite'),
    ('augment.mixup_alpha=inf', '0 or more and finite'),
    ('eval.every_epochs=nan', 'more than 0 and finite'),
    ('sam.rho=inf', '0 or more and finite'),
    # Not one of those there are.
    ('model.name=NFnet', 'one of NFNet, NFResNet, NFRegNet'),
    ('model.activation=tanh', 'one of gelu, relu, silu'),
    ('data.eval_style=torch', 'one of paper, timm'),
    # Of mixtures.
    ('data.mixture.web.weight=many', 'a number'),
    ('data.mixture.web.weight=0', 'more than 0 and finite'),
    ('data.mixture.web.weight=inf', 'more than 0 and finite'),
    ('data.mixture.web.wieght=1', 'data.mixture.NAME.FIELD, of the fields source, name, dir, split, weight'),
    ('data.mixture.web=1', 'data.mixture.NAME.FIELD, of the fields source, name, dir, split, weight'),
    ('data.mixture=1', 'data.mixture.NAME.FIELD, of the fields source, name, dir, split, weight'),
    ('augment.partners=twins', 'one of fresh, batch'),
    ('train.precision=float16', 'one of float32, bfloat16'),
    ('train.loss=hinge', 'one of softmax, sigmoid'),
    # Not with what else there is: eight devices.
    ('train.batch_size=20', 'does not divide by the 8 devices; nearest: 16 or 24'),
    ('eval.batch_size=7', 'does not divide by the 8 devices; nearest: 8'),
    ('train.accumulate_steps=3', 'does not divide the 8 images of each device: it must be one of 1, 2, 4, 8'),
    ('model.num_classes=4', 'it must be 10 or more'),
    ('optimizer.warmup_steps=400', 'the warm-up must be shorter than the run'),
]

TRAIN = 'train --config=configs/digits.py --workdir=new'
# Of one block, for what shows only once there is a network.
TINY = (
    'train --config=configs/digits.py --config.model.widths=16 --config.model.depths=1 '
    '--config.model.group_width=8'
)
EVALUATE = 'evaluate --config=configs/digits.py'
PREDICT = 'predict --checkpoint=net.npz'
PLAN = 'plan --variant=F0 --device=v4 --devices=128'
FOLDER = f'{TRAIN} --config.data.source=folder'
TABLES = f'{FOLDER} --config.data.dir=tables --config.data.train_split=one'
TFDS = f'{TRAIN} --config.data.source=tfds'

# ----------------------------------------------------------------- Command lines, and the error of each
CASES = [
    # Mistyped.
    (f'{TRAIN} --config.train.batch_sise=64', 'train.batch_sise=64', 'did you mean train.batch_size?'),
    (f'{TRAIN} --config.batch_size=64', 'batch_size=64', 'did you mean eval.batch_size or train.batch_size?'),
    (f'{TRAIN} --config.trian.steps=64', 'trian.steps=64', 'did you mean train.steps?'),
    (f'{TRAIN} --config.xyz=1', 'xyz=1', '--help lists them all'),
    (f'{TRAIN} --config.train.steps.more=1', 'train.steps.more=1', 'no such setting'),
    (f'{TRAIN} --config.train=64', 'train is a group of settings: accumulate_steps, all_reduce, batch_size'),
    (f'{TRAIN} --config.nodata.flip', 'nodata.flip', 'no such setting'),
    (f'{TRAIN} --noconfig.data.flop', 'data.flop', 'did you mean data.flip?'),
    ('train --config=configs/digits.py --wrokdir=new', 'wrokdir', 'workdir'),
    ('train --config=configs/digits.py', '--workdir', 'required'),
    ('train --workdir=new', '--config is required', '--config=digits'),
    # Words that belong to no flag.
    (f'{TRAIN} foo', "'foo' belongs to no flag", '--config.GROUP.NAME=VALUE'),
    (f'{TRAIN} --config.data.flip False', "'False'", 'did you mean --config.data.flip=False?'),
    (f'{TRAIN} train.steps=3', "'train.steps=3'", '--config.GROUP.NAME=VALUE'),
    (f'{EVALUATE} --checkpoint=run --ema False', "'False'", '--ema takes no value'),
    (f'{EVALUATE} --checkpoint run net.npz', "'net.npz' belongs", 'did you mean --checkpoint=net.npz?'),
    (f'{EVALUATE} --checkpoint=run net.npz', "'net.npz' belongs", 'did you mean --checkpoint=net.npz?'),
    (f'{TRAIN} --config.train.steps', 'train.steps', 'a whole number'),
    (f'{TRAIN} --config.train.steps many', 'train.steps=many', 'a whole number'),
    (f'{TRAIN} --config.data.flip=maybe', 'data.flip=maybe', 'True or False'),
    # Config files.
    (
        'train --config=configs/nothing.py --workdir=new',
        'configs/nothing.py',
        'configs by name: coco, default, digits',
    ),
    (
        'train --config=run/config.json --workdir=new',
        'run/config.json',
        'ends in .py',
        'configs by name: coco, default, digits',
    ),
    ('train --config=configs --workdir=new', '--config=configs', 'configs by name: coco, default, digits'),
    ('train --config= --workdir=new', '--config=', 'configs by name: coco, default, digits'),
    ('train --config=broken.py --workdir=new', 'broken.py', 'line 2'),
    ('train --config=raising.py --workdir=new', 'raising.py', 'line 5', 'optimiser', 'optimizer'),
    ('train --config=without.py --workdir=new', 'without.py', 'get_config'),
    ('train --config=other.py --workdir=new', 'other.py', 'nfnets.configs.default'),
    ('train --config=configs/imagenet.py:F9 --workdir=new', "'F9'", 'there are F0, F1, F2', 'F7+'),
    ('train --config=configs/imagenet.py: --workdir=new', "''", 'there are F0, F1, F2', 'F7+'),
    ('train --config=configs/imagenet_regnet.py:F0 --workdir=new', "'F0'", 'there are B0, B1'),
    ('train --config=configs/imagenet_ladder.py:F0 --workdir=new', "'F0'", 'there are baseline, widths'),
    ('train --config=configs/digits.py:LeNet --workdir=new', 'model.name=LeNet', 'one of NFNet, NFResNet'),
    ('train --config=configs/default.py:F0 --workdir=new', 'configs/default.py', 'no variants'),
    (f'{TRAIN} --config.model.variant=F9', "'F9'", 'there are F0, F1', 'F7+'),
    # Flags of training.
    (f'{TRAIN} --profile=-1', '--profile=-1', '0 or more'),
    (f'{TRAIN} --profile=all', '--profile', 'int', "'all'"),
    (f'{TRAIN} --num-processes=2', '--num-processes', 'missing: --coordinator, --process-id'),
    (
        f'{TRAIN} --coordinator=localhost --num-processes=2 --process-id=0',
        '--coordinator=localhost',
        'HOST:PORT',
    ),
    (f'{TRAIN} --coordinator=a:1 --num-processes=2 --process-id=2', '--process-id=2', '--num-processes=2'),
    # Patterns.
    (f'{TINY} --workdir=new "--config.optimizer.freeze=("', 'optimizer.freeze=(', 'no regular expression'),
    (f'{TINY} --workdir=new --config.optimizer.freeze=xyz', 'optimizer.freeze=xyz', 'in no parameter'),
    (f'{TINY} --workdir=new --config.optimizer.freeze=.', 'optimizer.freeze=.', 'none would be left'),
    (f'{TINY} --workdir=new --config.optimizer.agc_skip=[', 'optimizer.agc_skip=[', 'no regular expression'),
    # Working directories.
    (f'{TINY} --workdir=text.txt', 'text.txt is a file, and must be a directory'),
    (f'{TINY} --workdir=text.txt/new', 'text.txt/new', 'text.txt is a file, and'),
    (f'{TINY} --workdir=/proc/new', '/proc/new', 'nothing can be made in /proc'),
    (f'{TINY} --workdir=/proc/self/new', 'nothing can be made in /proc/self'),
    ('train --config=configs/digits.py --workdir=', '--workdir', 'no value'),
    ('train --config=configs/digits.py --workdir=https://a/b', 'https://a/b', 'gs://BUCKET/PATH'),
    ('train --config=configs/digits.py --workdir=s3://a/b', 's3://a/b', 'gs://BUCKET/PATH'),
    ('train --config=configs/digits.py --workdir=run', 'run/config.json', 'model.widths'),
    # Data.
    (f'{TRAIN} --config.data.source=digitz', "'digitz'", 'there are tfds, folder, webdataset, digits'),
    (f'{TRAIN} --config.data.eval_split=test', "'test'", 'there are train, eval'),
    (FOLDER, "data.source='folder' needs data.dir"),
    (f'{FOLDER} --config.data.dir=text.txt', 'data.dir=text.txt', 'expected text.txt/train/CLASS'),
    (f'{FOLDER} --config.data.dir=nowhere', 'data.dir=nowhere', 'expected nowhere/train/CLASS'),
    (f'{FOLDER} --config.data.dir=empty', 'empty/train', 'expected empty/train/CLASS'),
    (f'{FOLDER} --config.data.dir=https://a/b', 'https://a/b', 'gs://BUCKET/PATH'),
    (f'{FOLDER} --config.data.dir=folder --config.data.eval_split=val', 'folder/val', 'has not: owl'),
    (f'{FOLDER} --config.data.dir=folder --config.data.eval_split=test', 'folder/test is no folder'),
    (f'{TRAIN} "--config.data.mixture.my set.weight=1"', 'data.mixture.my set', 'letters, digits, _ and -'),
    (f'{TRAIN} --config.data.mixture.a.split=test', "data.mixture.a: the digits have no split 'test'"),
    (f'{TRAIN} --config.data.mixture.a.source=digitz', "data.mixture.a: unknown data.source 'digitz'"),
    (
        f'{TRAIN} --config.data.mixture.a.weight=1 --config.data.mixture.b.split=eval',
        'data.mixture.b.weight is missing: all sources have a weight, or none',
    ),
    (
        f'{TABLES} --config.data.mixture.a.split=one --config.data.mixture.b.split=two',
        "label 0 of b is the class 'owl', and a has 'cat' there",
    ),
    (f'{TABLES} --config.data.eval_split=two', 'label 0 of the evaluation split is the class'),
    (f'{TABLES} --config.data.eval_split=three', 'tables/three', 'is no folder'),
    (f'{TFDS} --config.data.dir=empty --config.data.name=imagenet2013', "'imagenet2013'", 'imagenet2012'),
    (f'{TFDS} --config.data.dir=empty', 'data.name=imagenet2012', 'data.dir=empty', 'tfds build'),
    (f'{TFDS} --config.data.dir=https://a/b', 'https://a/b', 'gs://BUCKET/PATH'),
    # Checkpoints.
    (f'{TRAIN} --config.init_from=text.txt', 'text.txt', 'the files released with the paper'),
    (f'{TRAIN} --config.init_from=https://a/b.npz', 'https://a/b.npz', 'gs://BUCKET/PATH'),
    (EVALUATE, '--checkpoint', 'required'),
    (f'{EVALUATE} --checkpoint=nowhere.npz', 'nowhere.npz', 'No such file'),
    (f'{EVALUATE} --checkpoint=empty.npz', 'empty.npz', 'empty'),
    (f'{EVALUATE} --checkpoint=text.txt', 'text.txt', 'the files released with the paper'),
    (f'{EVALUATE} --checkpoint=cut.npz', 'cut.npz'),
    (f'{EVALUATE} --checkpoint=cut.safetensors', 'cut.safetensors'),
    (f'{EVALUATE} --checkpoint=empty', 'empty', 'no working directory of a run'),
    (f'{EVALUATE} --checkpoint=unsaved', 'unsaved', 'has not saved any yet'),
    (f'{EVALUATE} --checkpoint=https://a/b.npz', 'https://a/b.npz', 'gs://BUCKET/PATH'),
    (f'{EVALUATE} --checkpoint=released:F7', '--checkpoint', 'did you mean released:F', 'released:F6'),
    (f'{EVALUATE} --checkpoint=net.npz --ema', 'net.npz', 'give no --ema'),
    (f'{EVALUATE}:ResNet --checkpoint=net.npz', 'net.npz', 'model.name=NFNet, not ResNet'),
    (f'{EVALUATE} --checkpoint=net.npz', 'net.npz', 'widths (32, 64)', '--config.model.widths'),
    (f'{EVALUATE} --checkpoint=run --config.data.eval_split=test', "'test'", 'there are train, eval'),
    (f'{EVALUATE} --checkpoint=run --config.eval.batch_size=7', 'eval.batch_size=7', 'nearest: 8'),
    # Images.
    (f'{PREDICT} --size=0 image.png', '--size', "'0'", '1 px or more'),
    (f'{PREDICT} --size=big image.png', '--size', "'big'", 'a whole number'),
    (f'{PREDICT} text.txt', 'text.txt', 'no image'),
    (f'{PREDICT} nowhere.png', 'nowhere.png', 'No such file'),
    (f'{PREDICT} https://a/b.png', 'https://a/b.png', 'gs://BUCKET/PATH'),
    (f'{PREDICT} empty', 'empty holds no image', '.png'),
    (f"{PREDICT} 'empty/*.jpg'", 'empty/*.jpg matches no image', '.png'),
    (f'{PREDICT} --ema image.png', 'net.npz', 'give no --ema'),
    (f'{PREDICT} --json --csv image.png', '--csv', 'not allowed with argument --json'),
    (PREDICT, 'image', 'required'),
    ('predict image.png', '--checkpoint', 'required'),
    ('predict --checkpoint=https://a/b.npz image.png', 'https://a/b.npz', 'gs://BUCKET/PATH'),
    ('predict --checkpoint=text.txt image.png', 'text.txt', 'the files released with the paper'),
    ('predict --checkpoint=unsaved image.png', 'unsaved', 'has not saved any yet'),
    # Conversion.
    ('convert net.npz text.txt', 'text.txt', 'give one of .npz, .safetensors, .pkl or none'),
    ('convert net.npz cut.npz', 'cut.npz exists already', 'another name'),
    ('convert net.npz run', 'run exists already', 'another name'),
    ('convert nowhere.npz new.npz', 'nowhere.npz', 'No such file'),
    ('convert text.txt new.npz', 'text.txt', 'the files released with the paper'),
    ('convert https://a/b.npz new.npz', 'https://a/b.npz', 'gs://BUCKET/PATH'),
    ('convert net.npz https://a/b.npz', 'https://a/b.npz', 'gs://BUCKET/PATH'),
    ('convert net.npz text.txt/new.npz', 'text.txt/new.npz', 'Not a directory'),
    ('convert net.npz nowhere/new.npz', 'nowhere/new.npz', 'No such file or directory'),
    ('convert --to onnx net.npz new.onnx', '--to', "'onnx'", 'npz'),
    ('convert hf:nets new.npz', 'hf:nets', 'hf:OWNER/NAME[@REVISION][/FILE]'),
    ('convert --ema net.npz new.npz', 'net.npz', 'give no --ema'),
    ('convert net.npz', 'target', 'required'),
    # Export.
    ('export net.npz net.txt', 'the format of net.txt', 'give one of .onnx, .stablehlo or none, or --to'),
    ('export net.npz text.txt --to=onnx', 'text.txt exists already', 'another name'),
    ('export net.npz run', 'run exists already', 'another name'),
    ('export net.npz nowhere/new.onnx', 'nowhere/new.onnx', 'there is no directory nowhere'),
    ('export net.npz gs://a/new.onnx', 'gs://a/new.onnx', 'a path on a disk'),
    ('export net.npz new.onnx --precision=bfloat16', '--precision=bfloat16', 'float32 or float16'),
    ('export net.npz new.onnx --precision=int8', '--precision', "'int8'", 'float32'),
    ('export net.npz new --to=tflite', '--to', "'tflite'", 'onnx'),
    ('export net.npz new --size=0', '--size', "'0'", '1 px or more'),
    ('export net.npz new --ema', 'net.npz', 'give no --ema'),
    ('export text.txt new.onnx', 'text.txt', 'the files released with the paper'),
    ('export net.npz', 'target', 'required'),
    # Reports.
    ('report', 'workdir', 'required'),
    ('report empty', 'empty', 'no working directory of a run'),
    ('report nowhere', 'nowhere', 'no working directory of a run'),
    ('report text.txt', 'text.txt', 'no working directory of a run'),
    ('report https://a/run', 'https://a/run', 'gs://BUCKET/PATH'),
    ('report run --output=https://a/b.html', 'https://a/b.html', 'gs://BUCKET/PATH'),
    ('report run --output=empty', 'empty', 'directory'),
    ('report run --points nowhere.jsonl', 'nowhere.jsonl', 'No such file'),
    ('report unsaved', 'unsaved/metrics.jsonl', 'no metrics'),
    ('report run --images=0', '--images=0', '1 or more'),
    ('report run --images=all', '--images', "'all'", 'int'),
    # Plans.
    ('plan --variant=F9 --device=v4 --devices=128', "'F9'", 'there are F0, F1', 'F7+'),
    ('plan --variant=F0 --device=v9 --devices=128', "'v9'", 'there are v3, v4, v5e, v5p, v6e'),
    ('plan --variant=F0 --device=v4 --devices=3', '3 devices of v4', 'a multiple of 4'),
    ('plan --variant=F0 --device=v4 --devices=0', '--devices=0', 'more than 0'),
    ('plan --variant=F0 --device=v4', '--devices', 'required'),
    (f'{PLAN} --batch=100', 'batch_size=100', 'nearest: 128'),
    (f'{PLAN} --batch=many', '--batch', "'many'", 'int'),
    (f'{PLAN} --accumulate=5', 'accumulate_steps=5', 'one of 1, 2, 4'),
    (f'{PLAN} --step-ms=0', '--step-ms=0', 'more than 0'),
    (f'{PLAN} --step-ms=nan', '--step-ms=nan', 'more than 0'),
    (f'{PLAN} --core-rate=inf', '--core-rate=inf', 'finite'),
]
CASES += [
    (f'{TRAIN} {shlex.quote(f"--config.{setting}")}', setting, message) for setting, message in SETTINGS
]


@pytest.fixture(scope='module')
def directory(tmp_path_factory):
    """A directory that holds everything that the cases name."""
    directory = tmp_path_factory.mktemp('bad')
    _furnish(directory)
    return directory


def _furnish(directory):
    import small_runs
    import tiny_network
    from etils import epath
    from PIL import Image

    from nfnets.data.preprocessing import Preprocessing
    from nfnets.weights.about import About
    from nfnets.weights.save import save_checkpoint

    def write(name, content=b''):
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)

    (directory / 'configs').symlink_to(ROOT / 'configs')
    (directory / 'empty').mkdir()
    image = io.BytesIO()
    Image.new('RGB', (32, 32)).save(image, 'PNG')
    for name in ('image.png', 'folder/train/cat/1.png', 'folder/val/cat/1.png', 'folder/val/owl/1.png'):
        write(name, image.getvalue())
    write('tables/1.png', image.getvalue())
    for split, labels in {'one': 'cat;dog', 'two': 'owl'}.items():
        write(f'tables/{split}.csv', f'file,labels\n1.png,{labels}\n'.encode())
    write('text.txt', b'This is text.\n')
    write('empty.npz')
    write('broken.py', b'def get_config():\n    return (\n')
    changed = (
        'from nfnets.configs import default\n\ndef get_config():\n    config = default.get_config()\n    {}\n'
    )
    write('raising.py', changed.format('config.optimiser.momentum = 0.9').encode())
    write('without.py', b'config = None\n')
    write('other.py', b'import ml_collections\n\nget_config = ml_collections.ConfigDict\n')
    about = About(class_names=tuple('0123456789'), preprocessing=Preprocessing(32, 0, 'paper'))
    for name, form in {'npz': 'npz', 'safetensors': 'timm'}.items():
        path = directory / f'net.{name}'
        save_checkpoint(epath.Path(path), form, tiny_network.params(num_classes=10), about)
        write(f'cut.{name}', path.read_bytes()[:20_000])
    small_runs.write(epath.Path(directory / 'run'), [{'step': 20, 'train/loss': 1.0}], has_checkpoint=True)
    small_runs.write(epath.Path(directory / 'unsaved'), [])


@pytest.mark.parametrize(
    ('command', 'message'), [(c, message) for c, *message in CASES], ids=[c[0] for c in CASES]
)
def test_a_bad_input_costs_one_line_that_names_it_and_writes_nothing(directory, command, message):
    before = _files(directory)
    name, *words = shlex.split(command)
    changed = {'NFNETS_HOST': 'as-is', 'COLUMNS': '200'}
    run = forge.start(name, words, directory=directory, changed=changed, is_apart=True)
    printed, errors = run.communicate(timeout=_PATIENCE)
    assert run.returncode == 2, errors or printed
    lines = [line for line in errors.splitlines() if line.startswith('error: ')]
    assert len(lines) == 1, errors
    assert 'Traceback' not in errors
    for part in message:
        assert part in lines[0], lines[0]
    assert _files(directory) == before
    assert not printed


def _files(directory):
    return {path: path.lstat().st_mtime_ns for path in directory.rglob('*')}
