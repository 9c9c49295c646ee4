"""The plan of a run: its arithmetic against figures worked out by hand, compilers' answers, the command."""

import importlib.metadata
import importlib.util
import json
import sys
import time

import jax
import jax.numpy as jnp
import pytest

from nfnets import build, host
from nfnets import config as config_lib
from nfnets.commands import plan as command
from nfnets.configs import coco, imagenet
from nfnets.data.augment import PARTNERS
from nfnets.errors import InputError
from nfnets.models.networks import NETWORKS
from nfnets.planning import compiler, core_rate, estimate, plan
from nfnets.planning.pace import CALIBRATION, estimated_time, pace, step_times
from nfnets.planning.plan_text import text
from nfnets.planning.recipe import imagenet_config
from nfnets.planning.tpus import DEVICES, get_slice


@pytest.fixture(autouse=True)
def _own_cache(monkeypatch, tmp_path):
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))


# --------------------------------------------------------------------------------- Arithmetic
def test_the_pace_of_f5_as_worked_out_by_hand():
    found = pace(1398.5, steps=112_602, batch_size=4096, hosts=32, core_rate=30.0, decoded=PARTNERS)
    assert found.days == pytest.approx(1.822615, abs=1e-6)  # 112,602 x 1.3985 s = 157,473.897 s.
    assert found.images_per_second == pytest.approx(2928.852, abs=1e-3)
    assert found.host_images_per_second == pytest.approx({'batch': 91.5266, 'fresh': 183.0533}, abs=1e-4)
    assert found.host_cores == pytest.approx({'batch': 3.05089, 'fresh': 6.10178}, abs=1e-5)


@pytest.mark.parametrize(
    ('variant', 'device', 'images', 'sam', 'expected'),
    [
        ('F0', 'v3', 32, False, {'published for v3': 73.3}),
        ('F0', 'v3', 128, False, {'published for v3': 293.2}),
        ('F5', 'v4', 32, False, {'published for v3': 1398.5, 'scaled to v4': 312.7555}),  # x 61.5 / 275
        ('F5', 'v5p', 16, True, {'published for v3': 979.0, 'scaled to v5p': 131.1732}),  # x 61.5 / 459
        ('F6', 'v3', 32, True, {'published for v3': 2774.1}),
        ('F6', 'v3', 32, False, {}),  # Published with SAM alone.
        ('F7', 'v4', 32, False, {}),
    ],
)
def test_steps_are_estimated_from_the_published_ones(variant, device, images, sam, expected):
    assert step_times(variant, DEVICES[device], images, sam=sam) == pytest.approx(expected, abs=1e-4)


def test_a_step_is_estimated_by_the_first_program_that_has_cycles():
    # 47 million cycles at 940 MHz are 50 ms.
    expected = {'estimated by XLA': pytest.approx(50 * CALIBRATION)}
    assert estimated_time(DEVICES['v3'], [None, 47_000_000, 60_000_000]) == expected
    assert estimated_time(DEVICES['v3'], [None]) == {}


@pytest.mark.parametrize(
    ('device', 'num_devices', 'hosts', 'accelerator_type'),
    [
        ('v3', 32, 4, 'v3-32'),  # TensorCores, of which each is a device ...
        ('v4', 128, 32, 'v4-256'),  # ... or two.
        ('v5e', 4, 1, 'v5litepod-4'),
        ('v5p', 64, 16, 'v5p-128'),
        ('v6e', 256, 64, 'v6e-256'),
    ],
)
def test_a_slice_is_what_google_rents(device, num_devices, hosts, accelerator_type):
    found = get_slice(device, num_devices)
    assert (found.hosts, found.accelerator_type) == (hosts, accelerator_type)


@pytest.mark.parametrize(
    ('device', 'number', 'message'), [('v9', 4, 'v3, v4'), ('v3', 4, '8'), ('v4', 0, '4')]
)
def test_a_slice_that_there_is_not_is_refused(device, number, message):
    with pytest.raises(InputError, match=message):
        get_slice(device, number)


# --------------------------------------------------------------------------------- Asking compilers
class _Lowered:
    """Stands for a program that XLA's TPU compiler refuses with an error."""

    def __init__(self, error):
        self.error = error
        self.compiled = 0

    def as_text(self):
        return 'a program'

    def compile(self, options):
        self.compiled += 1
        raise jax.errors.JaxRuntimeError(self.error)


# The answer of XLA's TPU compiler for F5 with 32 images a device, and as it is quoted elsewhere.
TOO_LARGE = {
    'RESOURCE_EXHAUSTED: Ran out of memory on HBM, the total memory required for HLO temporaries (79.15G) '
    'exceeds available HBM (30.75G).': 79.15,
    'RESOURCE_EXHAUSTED: XLA:TPU compile permanent error. Ran out of memory in memory space hbm. Used 20.93G '
    'of 15.48G hbm. Exceeded hbm capacity by 5.45G.': 20.93,
    'RESOURCE_EXHAUSTED: TPU TensorCore Hbm usage: 34.82G, SparseCore Hbm usage 174.10G, exceeding available '
    'bytes: 95.74G': 34.82,
    'RESOURCE_EXHAUSTED: hbm, in words to come': None,
}


@pytest.mark.parametrize(('error', 'gib'), TOO_LARGE.items())
def test_a_program_that_the_tpu_compiler_refuses_does_not_fit_and_is_not_compiled_again(
    monkeypatch, error, gib
):
    monkeypatch.setattr(importlib.metadata, 'version', lambda package: '0.1')
    lowered = _Lowered(error)
    for _ in range(2):
        assert compiler.ask(lowered, DEVICES['v4'], for_tpu=True) == ('XLA for TPU v4 0.1', False, gib, None)
    assert lowered.compiled == 1
    compiler.ask(lowered, DEVICES['v3'], for_tpu=True)
    assert lowered.compiled == 2


@pytest.mark.parametrize('error', ['INTERNAL: a bug', 'RESOURCE_EXHAUSTED: Ran out of memory in vmem'])
def test_another_error_of_the_compiler_is_not_taken_for_an_answer(monkeypatch, error):
    monkeypatch.setattr(importlib.metadata, 'version', lambda package: '0.1')
    with pytest.raises(jax.errors.JaxRuntimeError, match=error):
        compiler.ask(_Lowered(error), DEVICES['v4'], for_tpu=True)
    assert not list(host.cache_directory().rglob('*.json'))


@pytest.mark.parametrize(('error', 'gib'), TOO_LARGE.items())
def test_an_estimate_of_what_does_not_fit_is_refused_in_one_line(error, gib):
    needed = '' if gib is None else f', it needs {gib} GiB'
    with pytest.raises(InputError) as refused:
        estimate._compile(_Lowered(error), DEVICES['v4'], 'least')
    there = 'the step does not fit into the 32 GiB of memory of a device of v4'
    assert str(refused.value) == f'{there}{needed}: take fewer images'
    with pytest.raises(jax.errors.JaxRuntimeError, match='a bug'):
        estimate._compile(_Lowered('INTERNAL: a bug'), DEVICES['v4'], 'least')


def test_an_answer_is_given_where_none_can_be_kept(tmp_path):
    (tmp_path / 'cache').write_text('no directory')
    lowered = jax.jit(jnp.sin).lower(jax.ShapeDtypeStruct((4,), jnp.float32))
    assert compiler.ask(lowered, DEVICES['v4'], for_tpu=False).fits


@pytest.mark.parametrize(('gib', 'fits'), [(0.004, True), (0.003, None)])
def test_the_cpu_compiler_s_answer_is_an_upper_bound(monkeypatch, gib, fits):
    shape = jax.ShapeDtypeStruct((512, 512), jnp.float32)  # 1 MiB; 4 of them are 0.0039 GiB.
    lowered = jax.jit(lambda x, y: (x @ y) @ x).lower(shape, shape)
    device = DEVICES['v4'].__class__(**{**vars(DEVICES['v4']), 'memory_gib': gib})
    answer = compiler.ask(lowered, device, for_tpu=False)
    assert answer.fits is fits
    assert answer.gib == pytest.approx(4 / 1024, rel=1e-2)


# --------------------------------------------------------------------------------- The plan
def _small(monkeypatch):
    get_config = imagenet.get_config

    def small(variant):
        config = get_config(variant)
        config.model.widths, config.model.depths, config.model.group_width = (16,), (1,), 8
        config.model.activation = 'relu'  # Sooner compiled.
        config.data.train_size = 16
        config.augment.mixup_alpha, config.augment.cutmix = 0.0, False  # Likewise.
        return config

    monkeypatch.setattr(imagenet, 'get_config', small)


def test_the_memory_of_a_small_network_is_that_of_its_compiled_step(monkeypatch):
    _small(monkeypatch)
    monkeypatch.setattr(compiler, 'tpu_devices', lambda device: None)
    compiled = []

    def lower(config, devices, lower_train_step=build.lower_train_step):
        lowered = lower_train_step(config, devices)
        compile_program = lowered.compile
        lowered.compile = lambda options: compiled.append(compile_program(options)) or compiled[-1]
        return lowered

    monkeypatch.setattr(build, 'lower_train_step', lower)
    found = plan.plan(plan.Question('F5', 'v4', 4, batch=128, core_rate=30.0))['memory']
    assert list(found) == ['without_remat', 'with_remat']
    for answer, program in zip(found.values(), compiled, strict=True):
        stats = program.memory_analysis()
        results = stats.output_size_in_bytes - stats.alias_size_in_bytes  # Metrics: the state is in place.
        assert 0 < results < 2000
        expected = stats.argument_size_in_bytes + stats.temp_size_in_bytes + results
        assert answer['gib'] == pytest.approx(expected / 2**30, rel=1e-6)
        assert answer['fits']


def test_what_one_core_decodes_is_measured(monkeypatch):
    monkeypatch.setattr(core_rate, 'NUM_IMAGES', 8)
    start = time.process_time()
    rate = core_rate.core_rate(imagenet_config('F0'))
    # All threads together took longer for images, first batches and 1,024 images than for these alone.
    assert 1024 / (time.process_time() - start) < rate < 20_000


@pytest.mark.skipif(importlib.util.find_spec('libtpu') is None, reason='needs libtpu')
@pytest.mark.parametrize('device', DEVICES.values(), ids=lambda device: device.name)
def test_the_tpu_compiler_is_asked_without_a_tpu(monkeypatch, device):
    _small(monkeypatch)
    assert len(compiler.tpu_devices(device)) == device.per_host
    question = plan.Question('F0', device.name, device.per_host, batch=8 * device.per_host, core_rate=30.0)
    for answer in plan.plan(question)['memory'].values():
        assert 'TPU' in answer['compiler']
        assert answer['fits']
        assert 0 < answer['gib'] < 0.1


def test_a_network_whose_blocks_cannot_be_scanned_is_planned_as_it_is(monkeypatch):
    lowered_for = []

    def lower(config, devices):
        lowered_for.append((config.model.name, config.model.scan, config.model.remat))
        return jax.jit(jnp.sin).lower(jax.ShapeDtypeStruct((4,), jnp.float32))

    monkeypatch.setattr(build, 'lower_train_step', lower)
    monkeypatch.setattr(compiler, 'tpu_devices', lambda device: None)
    config = coco.get_config('ResNet50')
    question = plan.Question(
        'ResNet50', 'v4', 16, batch=64, core_rate=30.0, step_ms=500.0, config=config, classes=80
    )
    found = plan.plan(question)
    assert lowered_for == [('ResNet', False, False)]
    assert list(found['memory']) == ['without_remat']
    assert 'with remat' not in text(found)


@pytest.mark.parametrize(
    ('gib', 'fits', 'then'), [(30.0, True, True), (32.4, False, None), (32.4, None, True)]
)
def test_what_is_sharded_over_many_devices_takes_less_than_compiled_for_one_host(
    monkeypatch, gib, fits, then
):
    # Of momentum and EMA, which are alike, 1024 rows are split, and what has two stays whole.
    shapes = {
        'w': jax.ShapeDtypeStruct((3, 1024, 2**18 // 3), jnp.float32),
        'few': jax.ShapeDtypeStruct((2, 2**20), jnp.float32),
    }
    monkeypatch.setattr(build, 'variable_shapes', lambda config: (shapes, {}))
    answer = compiler.Answer('XLA', fits, gib, 5)
    found = plan._sharded(answer, None, 4, get_slice('v4', 128))
    assert found.gib == pytest.approx(gib - 2 * 4 * 3 * (256 - 8) * (2**18 // 3) / 2**30)
    assert (found.fits, found.cycles) == (then, 5)
    assert plan._sharded(answer._replace(gib=None), None, 4, get_slice('v4', 128)).gib is None


# --------------------------------------------------------------------------------- The command
def _run(monkeypatch, *arguments, recipe=('--variant', 'F5')):
    """The exit code of `nfnets-plan` for F5 on 128 devices of v4, but for the arguments."""
    monkeypatch.setattr(host, 'leave', sys.exit)  # Where there is libtpu, it would end this process at once.
    with pytest.raises(SystemExit) as stopped:
        command.main([*recipe, '--device', 'v4', '--devices', '128', *arguments])
    return stopped.value.code


def _rows_of_config(monkeypatch, capsys, *arguments):
    assert _run(monkeypatch, *arguments, recipe=()) == 0
    return {line[:30].strip(): line[30:].split() for line in capsys.readouterr().out.splitlines()}


def test_the_page_and_the_object_have_what_was_worked_out_by_hand(monkeypatch, capsys):
    lowered_for = []

    def lower(config, devices):
        model, train = config.model, config.train
        lowered_for.append((model.scan, model.remat, train.batch_size, config.data.train_size, len(devices)))
        side = 512 if model.remat else 1024
        shape = jax.ShapeDtypeStruct((side, side), jnp.float32)
        return jax.jit(lambda x, y: (x @ y) @ x).lower(shape, shape)

    monkeypatch.setattr(build, 'lower_train_step', lower)
    monkeypatch.setattr(plan, 'core_rate', lambda config: 30.0)
    monkeypatch.setattr(compiler, 'tpu_devices', lambda device: None)
    assert _run(monkeypatch, '--json') == 0
    found = json.loads(capsys.readouterr().out)
    assert lowered_for == [(True, False, 32, 416, 1), (True, True, 32, 416, 1)]
    assert (found['hosts'], found['images_per_device'], found['steps']) == (32, 32, 112_602)
    assert found['steps_per_epoch'] == pytest.approx(312.785, abs=1e-3)  # 1,281,167 / 4096
    assert found['paces']['published for v3']['days'] == pytest.approx(1.8226, abs=1e-4)
    assert found['memory']['without_remat']['gib'] == pytest.approx(4 * 4 / 1024, rel=0.01)  # Four of 4 MiB.
    assert found['memory']['with_remat']['gib'] == pytest.approx(4 / 1024, rel=0.01)

    assert _run(monkeypatch, '--step-ms', '500') == 0
    page = capsys.readouterr().out
    rows = {line[:30].strip(): line[30:].split() for line in page.splitlines()}
    assert page.startswith('F5, 4,096 images a step, on 128 devices of TPU v4 (v4-256)\n')
    assert rows['images a device'] == ['32', 'of', '416', 'px']
    assert rows['steps in 360 epochs'] == ['112,602']
    assert rows['ms'] == ['500.0']
    assert rows['days in all'] == ['0.65']  # 112,602 x 0.5 s / 86,400 s
    assert rows['images/s'] == ['8,192']
    assert rows['cores for that'] == ['8.5']  # 8192 / 32 / 30, of partners from the batch, which come last.
    assert rows['with remat'] == ['0.0', '32', 'fits']

    assert _run(monkeypatch, '--variant', 'F7', '--device', 'v6e') == 0
    page = capsys.readouterr().out
    assert 'give --step-ms' in page
    assert 'v6e-128' in page

    data = ('--examples', '300000000', '--classes', '18000', '--step-ms', '500')
    rows = _rows_of_config(monkeypatch, capsys, '--config=pretrain:F4+', *data)
    assert lowered_for[-1] == (True, True, 32, 224, 1)
    assert rows['images to train on'] == ['300,000,000,', 'of', '18,000', 'classes']
    assert rows['steps in 20 epochs'] == ['1,464,843']  # 20 x 300,000,000 / 4096
    assert rows['days in all'] == ['8.48']  # 1,464,843 x 0.5 s / 86,400 s
    assert rows['images/s to decode'] == ['256']  # 8,192 / 32: none is mixed.

    repeated = ('--config=finetune:F4+-224to384', '--config.augment.partners=batch', '--step-ms', '500')
    rows = _rows_of_config(monkeypatch, capsys, *repeated)
    assert lowered_for[-1] == (True, True, 16, 384, 1)
    assert rows['crops of each image'] == ['4', 'in', 'a', 'batch,', 'so', '12.5', 'passes']
    assert rows['images/s to read'] == ['32']  # 2048 / 0.5 s on 32 hosts, in fours.

    coco = ('--devices', '16', '--examples', '118287', '--classes', '80', '--step-ms', '500')
    rows = _rows_of_config(monkeypatch, capsys, '--config=coco:F0', *coco)
    assert lowered_for[-1] == (True, True, 4, 1024, 1)
    assert rows['days in all'] == ['0.13']  # 22,500 x 0.5 s / 86,400 s
    assert rows['images/s to decode'] == ['32']  # 64 / 0.5 s on 4 hosts.


@pytest.mark.parametrize('variant', ['eca_nfnet_l0', 'B1', 'nf_resnet50'])
def test_every_normalizer_free_network_has_a_config_to_plan(variant):
    config = imagenet_config(variant, sam=True)
    config_lib.check(config)
    assert variant in NETWORKS[config.model.name].variants
    assert (config.model.variant, config.sam.rho) == (variant, 0.05)


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['--variant', 'F9'], "unknown variant 'F9'; there are F0, F1"),
        (['--device', 'v9'], "unknown device 'v9'; there are v3"),
        (['--devices', '127'], '127 devices of v4'),
        (['--batch', '4100'], '4100 does not divide by the 128 devices; nearest: 4096 or 4224'),
        (['--accumulate', '3'], 'train.accumulate_steps=3'),
        (['--step-ms', '-1'], '--step-ms=-1.0 must be more than 0'),
        (['--core-rate', '0'], '--core-rate=0.0 must be more than 0'),
        (['--examples', '0'], '--examples=0 must be more than 0'),
        (['--config=pretrain:F4'], '--variant does not go with --config; give settings'),
        (['--config.seed=1'], '--config.seed goes with --config=NAME'),
    ],
)
def test_impossible_input_costs_one_line_before_anything_is_measured(monkeypatch, capsys, arguments, message):
    monkeypatch.setattr(plan, 'core_rate', lambda config: pytest.fail('measured'))
    assert _run(monkeypatch, *arguments) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line
