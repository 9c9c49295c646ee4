"""The config: what is derived, and what is refused."""

import ml_collections
import pytest

from nfnets import config as config_lib
from nfnets import config_rules
from nfnets.configs import (
    default,
    digits,
    finetune,
    imagenet,
    imagenet_ladder,
    imagenet_regnet,
    imagenet_resnet,
    pretrain,
    small,
)
from nfnets.data.augment import Augmentation
from nfnets.errors import InputError
from nfnets.models.networks import NETWORKS

IMAGENET = {'num_examples': 1_281_167, 'num_classes': 1000, 'num_devices': 8}


def _changed(**settings: object) -> ml_collections.ConfigDict:
    config = default.get_config()
    config.update_from_flattened_dict({k.replace('__', '.'): v for k, v in settings.items()})
    return config


def test_paper_recipe_of_f0_follows_from_the_defaults():
    config = config_lib.complete(imagenet.get_config('F0'), **IMAGENET)
    assert config.train.steps == 112_602
    assert config.optimizer.learning_rate == pytest.approx(1.6)
    assert config.optimizer.warmup_steps == pytest.approx(1563.92456055, rel=1e-9)
    assert (config.data.train_size, config.data.eval_size) == (192, 256)
    assert config.model.dropout_rate == 0.2
    assert config.augment.randaugment_magnitude == 5
    assert config.model.num_classes == 1000


@pytest.mark.parametrize(
    ('variant', 'images', 'steps', 'decay'),
    [
        ('F4', 300_000_000, 2_929_687, 1e-6),  # 40 epochs of 4096
        ('F4+', 300_000_000, 1_464_843, 1e-6),
        ('ResNet101', 300_000_000, 2_929_687, 1e-5),  # 10 of 1024
        ('F7+', 4_000_000_000, 7_812_500, 1e-6),  # 8 of 4096
    ],
)
def test_pre_training_is_that_of_the_papers(variant, images, steps, decay):
    data = {'num_examples': images, 'num_classes': 18_000, 'num_devices': 256}
    config = config_lib.complete(pretrain.get_config(variant), **data)
    rate = 0.4 if variant == 'ResNet101' else 1.6
    assert (config.train.steps, config.optimizer.weight_decay) == (steps, decay)
    assert (config.optimizer.learning_rate, config.optimizer.warmup_steps) == (pytest.approx(rate), 5000)
    assert (config.data.train_size, config.model.num_classes) == (224, 18_000)
    assert not Augmentation(**config.augment).mixes
    assert (config.augment.randaugment_layers, config.optimizer.ema_decay) == (0, 0.0)
    with pytest.raises(InputError, match="unknown variant 'F9'; there are F0"):
        pretrain.get_config('F9')


def test_fine_tuning_at_a_larger_size_is_that_of_the_later_paper():
    config = config_lib.complete(finetune.get_config('F4+-224to384'), **IMAGENET)
    assert (config.data.train_size, config.data.eval_size, config.data.repeats) == (384, 480, 4)
    assert (config.train.steps, config.optimizer.warmup_steps) == (50 * 1_281_167 // 2048, 5000)
    assert config.sam.rho == 0.05
    plain = config_lib.complete(finetune.get_config('F4+'), **IMAGENET)
    assert (plain.train.steps, plain.data.repeats) == (15_000, 1)


def test_overrides_after_the_variant_carry_over_to_what_follows_from_them():
    config = imagenet.get_config('F0')
    config.model.variant = 'F3'
    config.train.batch_size = 1024
    config = config_lib.complete(config, **IMAGENET)
    assert config.train.steps == 360 * 1_281_167 // 1024
    assert config.optimizer.learning_rate == pytest.approx(0.4)
    assert config.augment.randaugment_magnitude == 15
    assert (config.data.train_size, config.data.eval_size) == (320, 416)


def test_what_is_given_explicitly_stays():
    config = _changed(train__steps=50, optimizer__warmup_steps=2.0, optimizer__learning_rate=3.0)
    config.augment.randaugment_magnitude = 7
    config.data.train_size = 64
    config = config_lib.complete(config, **IMAGENET)
    assert (config.train.steps, config.optimizer.learning_rate) == (50, 3.0)
    assert (config.augment.randaugment_magnitude, config.data.train_size) == (7, 64)
    assert config.train.epochs == pytest.approx(50 * 4096 / 1_281_167)


def test_crops_of_an_image_fit_the_part_of_each_device():
    complete = config_lib.complete(_changed(data__repeats=4), **IMAGENET)
    assert complete.train.steps == config_lib.complete(default.get_config(), **IMAGENET).train.steps
    with pytest.raises(InputError, match=r'data\.repeats=3 does not divide the 4 images .* 1, 2, 4$'):
        config_lib.complete(_changed(data__repeats=3, train__batch_size=32), **IMAGENET)
    alone = {'data__repeats': 4, 'train__batch_size': 32, 'optimizer__warmup_epochs': 0.0}
    config_lib.complete(_changed(**alone), **IMAGENET)
    with pytest.raises(InputError, match=r"'batch' needs 2 images a device .* with data\.repeats=4 is 1"):
        config_lib.complete(_changed(**alone, augment__partners='batch'), **IMAGENET)


def test_a_complete_config_is_frozen_and_has_no_gap_but_what_is_optional():
    config = config_lib.complete(default.get_config(), **IMAGENET)
    gaps = [key for key, value in config_lib.flatten(config.to_dict()).items() if value is None]
    assert sorted(gaps) == ['data.dir', 'init_from', 'probe.dir', 'probe.name', 'probe.source', 'rewind_from']
    assert config.model.activation == 'gelu'
    with pytest.raises(AttributeError):
        config.train.steps = 1


@pytest.mark.parametrize(
    ('key', 'value'),
    [
        ('model.name', 'NF-ResNet'),
        ('model.variant', 'F9'),
        ('model.variant', 'ResNet50'),
        ('model.activation', 'tanh'),
        ('model.dropout_rate', 1.0),
        ('model.widths', ()),
        ('model.widths', (256, -1, 3, 4)),
        ('data.crop_area', (0.5,)),
        ('data.crop_area', (0.9, 0.1)),
        ('data.train_size', 0),
        ('data.eval_style', 'torchvision'),
        ('augment.partners', 'twins'),
        ('augment.randaugment_magnitude', 31),
        ('train.batch_size', 0),
        ('train.accumulate_steps', 0),
        ('train.epochs', 0.0),
        ('train.precision', 'float16'),
        ('train.label_smoothing', 1.0),
        ('optimizer.momentum', 1.0),
        ('optimizer.agc_clipping', 0.0),
        ('optimizer.learning_rate', float('inf')),
        ('optimizer.weight_decay', float('nan')),
        ('checkpoint.keep', 0),
    ],
)
def test_impossible_values_are_refused_by_name(key, value):
    config = default.get_config()
    config.update_from_flattened_dict({key: value})
    with pytest.raises(InputError) as error:
        config_lib.check(config)
    last = key.rsplit('.', 1)[-1]
    assert last in str(error.value)
    assert str(value) in str(error.value)


def test_shapes_of_the_network_must_fit_each_other():
    with pytest.raises(InputError, match='same number of stages'):
        config_lib.check(_changed(model__widths=(64, 64)))
    with pytest.raises(InputError, match=r'must be 256 or more each, .* model\.group_width=128'):
        config_lib.check(_changed(model__widths=(64, 64, 64, 64)))
    resnet = {'model__name': 'NFResNet', 'model__variant': 'ResNet50', 'model__depths': (1, 1)}
    config_lib.check(_changed(**resnet, model__widths=(4, 4)))
    with pytest.raises(InputError, match=r'widths=\(4, 3\) must be 4 or more each'):
        config_lib.check(_changed(**resnet, model__widths=(4, 3)))


def test_a_variant_is_one_of_the_network_that_is_named():
    with pytest.raises(InputError, match="unknown variant 'F0'; there are ResNet50, ResNet101"):
        config_lib.check(_changed(model__name='ResNet'))
    config = config_lib.complete(_changed(model__name='ResNet', model__variant='ResNet101'), **IMAGENET)
    assert (config.model.depths, config.model.activation) == ((3, 4, 23, 3), 'relu')
    assert (config.model.group_width, config.data.train_size) == (None, 224)


def test_timms_own_networks_have_their_activation_sizes_and_crops():
    light = config_lib.complete(imagenet.get_config('eca_nfnet_l1'), **IMAGENET)
    assert (light.model.activation, light.model.widths) == ('silu', (256, 512, 1536, 1536))
    assert (light.model.depths, light.model.group_width) == ((2, 4, 12, 6), 64)
    data = light.data
    assert (data.train_size, data.eval_size, data.eval_margin, data.eval_style) == (
        256,
        320,
        0,
        'timm_center',
    )
    assert config_lib.network_name(light) == 'NFNet eca_nfnet_l1'
    assert config_lib.network_name(_changed(model__activation='relu')) == 'NFNet F0'
    config = imagenet.get_config('nfnet_l0')
    config.data.eval_size = 224
    assert config_lib.complete(config, **IMAGENET).data.eval_margin == 24
    regnet = config_lib.complete(imagenet_regnet.get_config('nf_regnet_b1'), **IMAGENET)
    assert (regnet.data.eval_size, regnet.data.eval_margin) == (288, 32)
    assert regnet.optimizer.weight_decay == imagenet_regnet.get_config('B1').optimizer.weight_decay
    resnet = imagenet_resnet.get_config('NFResNet')
    resnet.model.variant = 'nf_resnet50'
    resnet = config_lib.complete(resnet, **IMAGENET)
    assert (resnet.model.activation, resnet.data.train_size, resnet.data.eval_margin) == ('relu', 256, 18)
    with pytest.raises(InputError, match="unknown variant 'nf_resnet50'; there are ResNet50"):
        config_lib.check(_changed(model__name='ResNet', model__variant='nf_resnet50'))
    with pytest.raises(InputError, match=r'must be 256 or more each, .* model\.group_width=64'):
        config_lib.check(_changed(model__variant='nfnet_l0', model__widths=(128, 256, 256, 256)))


@pytest.mark.parametrize('key', ['scan', 'remat'])
def test_batch_normalization_is_not_repeated(key):
    changed = {'model__variant': 'ResNet50', f'model__{key}': True}
    config_lib.check(_changed(model__name='NFResNet', **changed))
    with pytest.raises(InputError, match=rf'model\.{key}=True is not allowed with model\.name=ResNet'):
        config_lib.check(_changed(model__name='ResNet', **changed))


def test_lars_needs_unstacked_blocks():
    with pytest.raises(InputError, match=r'model\.scan=True is not allowed with optimizer\.lars_trust=0\.1'):
        config_lib.check(_changed(model__scan=True, optimizer__lars_trust=0.1))


@pytest.mark.parametrize('key', ['train.batch_size', 'eval.batch_size'])
def test_a_batch_that_does_not_divide_by_the_devices_names_its_neighbors(key):
    config = default.get_config()
    config.update_from_flattened_dict({key: 20})
    with pytest.raises(InputError, match=f'{key}=20 .* 8 devices; nearest: 16 or 24'):
        config_lib.complete(config, **IMAGENET)


def test_partners_from_the_batch_need_two_images_a_device():
    with pytest.raises(InputError, match='needs 2 images a device'):
        config_lib.complete(_changed(train__batch_size=8, augment__partners='batch'), **IMAGENET)


@pytest.mark.parametrize('partners', ['fresh', 'batch'])
def test_parts_that_do_not_divide_a_devices_batch_name_those_that_do(partners):
    config = _changed(train__batch_size=96, train__accumulate_steps=8, augment__partners=partners)
    expected = r'train\.accumulate_steps=8 .* the 12 images of each device: .* one of 1, 2, 3, 4, 6, 12$'
    with pytest.raises(InputError, match=expected):
        config_lib.complete(config, **IMAGENET)
    for steps in (3, 12):
        config.train.accumulate_steps = steps
        assert config_lib.complete(config, **IMAGENET).train.accumulate_steps == steps


def test_more_classes_in_the_data_than_in_the_network_are_refused():
    with pytest.raises(InputError, match=r'model\.num_classes=10, but the data has labels 0 to 999'):
        config_lib.complete(_changed(model__num_classes=10), **IMAGENET)


def test_a_warmup_longer_than_the_run_is_refused():
    with pytest.raises(InputError, match='warm-up must be shorter'):
        config_lib.complete(_changed(train__steps=100), **IMAGENET)


def test_evaluation_has_its_margin_from_the_style_and_its_batch_from_the_devices():
    config = config_lib.complete(_changed(model__variant='F1'), **IMAGENET)
    assert (config.data.eval_margin, config.eval.batch_size) == (32, 256)
    config = config_lib.complete(_changed(model__variant='F1', data__eval_style='timm'), **IMAGENET)
    assert config.data.eval_margin == 31
    config = config_lib.complete(_changed(data__eval_style='timm', data__eval_margin=5), **IMAGENET)
    assert config.data.eval_margin == 5


def test_without_training_nothing_is_asked_of_its_settings():
    without = {**IMAGENET, 'num_examples': None}
    config = config_lib.complete(_changed(train__batch_size=20), **without)
    assert config.model.num_classes == 1000
    assert config.train.steps is None


def test_every_setting_with_a_rule_exists_and_every_number_has_a_rule():
    settings = config_lib.flatten(default.get_config().to_dict())
    rules = config_rules.RULES
    assert set(rules) <= set(settings)
    numbers = {k for k, v in settings.items() if isinstance(v, (int, float)) and type(v) is not bool}
    assert numbers <= set(rules)


def test_deltas_are_accepted_and_a_mistyped_key_in_one_is_not():
    for network in NETWORKS:
        config_lib.check(digits.get_config(network))
    for network in ('NFResNet', 'ResNet', 'SkipInitResNet', 'FixupResNet'):
        config_lib.check(imagenet_resnet.get_config(network))
    config_lib.check(imagenet_regnet.get_config('B8'))
    with pytest.raises(InputError, match="unknown variant 'F0'; there are B0, B1"):
        imagenet_regnet.get_config('F0')
    with pytest.raises(AttributeError):
        default.get_config().train.batchsize = 3


@pytest.mark.parametrize(
    ('size', 'stages'), [('16', 2), ('32', 2), ('48', 2), ('64', 3), ('128', 4), ('512', 4)]
)
def test_a_small_network_has_a_stage_more_for_each_doubling_of_its_images(size, stages):
    config = small.get_config(size)
    config_lib.check(config)
    complete = config_lib.complete(config, num_examples=300, num_classes=7, num_devices=1)
    assert (complete.data.train_size, complete.data.eval_size) == (int(size), int(size))
    assert len(complete.model.widths) == len(complete.model.depths) == stages
    assert complete.train.steps == small.get_config().train.steps  # Whatever the number of images.


@pytest.mark.parametrize('size', ['F0', '0', '15', '-64', '32.5'])
def test_a_size_that_no_network_takes_is_named(size):
    with pytest.raises(InputError, match=f'small:{size}: the size must be .* from 16 on'):
        small.get_config(size)


def test_a_network_has_the_name_of_its_variant_only_if_it_is_that_one():
    assert config_lib.network_name(imagenet.get_config('F1')) == 'NFNet F1'
    assert config_lib.network_name(digits.get_config()) == 'NFNet of 1 x 64, 2 x 128'
    assert config_lib.network_name(imagenet_resnet.get_config('ResNet')) == 'ResNet ResNet50'


def test_one_word_turns_sam_on():
    plain, climbing = imagenet.get_config('F5'), imagenet.get_config('F5-SAM')
    assert (plain.sam.rho, climbing.sam.rho) == (0.0, 0.05)
    climbing.sam.rho = 0.0
    assert climbing.to_dict() == plain.to_dict()
    with pytest.raises(InputError, match='F5-SAN'):
        imagenet.get_config('F5-SAN')


def test_each_rung_of_the_ladder_adds_what_the_paper_added():
    def message(rung):
        config = imagenet_ladder.get_config(f'F2-{rung}')
        config_lib.check(config)
        model, augment = config.model, config.augment
        widths = config_lib.make_variant(config).widths
        return (
            (model.variant, model.name),
            (widths, model.second_conv),
            (augment.mixup_alpha, augment.randaugment_layers, augment.cutmix),
            config.optimizer.agc_clipping,
        )

    nf, default_widths, modified_widths = ('F2', 'NFNet'), (256, 512, 1024, 2048), (256, 512, 1536, 1536)
    assert {rung: message(rung) for rung in imagenet_ladder.RUNGS} == {
        'baseline': (nf, (default_widths, False), (0.0, 0, False), 0.01),
        'widths': (nf, (modified_widths, False), (0.0, 0, False), 0.01),
        'second_conv': (nf, (modified_widths, True), (0.0, 0, False), 0.01),
        'mixup': (nf, (modified_widths, True), (0.2, 0, False), 0.01),
        'randaugment': (nf, (modified_widths, True), (0.2, 4, False), 0.01),
        'cutmix': (nf, (modified_widths, True), (0.2, 4, True), 0.01),
        'batch_norm': (('F2', 'BNNet'), (modified_widths, True), (0.2, 4, True), float('inf')),
    }
    top, whole = imagenet_ladder.get_config('F2-cutmix'), imagenet.get_config('F2')
    assert top.to_dict() == whole.to_dict()
    with pytest.raises(InputError, match="unknown rung 'mixap' of 'F0-mixap'; there are baseline, widths"):
        imagenet_ladder.get_config('F0-mixap')
