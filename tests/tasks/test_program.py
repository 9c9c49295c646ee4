"""The training step of each task, as it is traced."""

import functools

import detection_runs
import jax
import programs
import pytest
from training_runs import TINY

from nfnets import build
from nfnets.config import complete
from nfnets.configs import digits, scenes
from nfnets.planning.account import DETECTION, _part

CONFIGS = {
    'classification': (
        digits.get_config,
        {**TINY, 'augment.mixup_alpha': 0.2, 'augment.randaugment_layers': 1},
    ),
    'detection': (
        functools.partial(scenes.get_config, 'NFResNet'),
        {**detection_runs.SETTINGS, 'data.dir': 'DIR'},
    ),
}
PARTS = ('pyramid', 'proposal head', 'RoIAlign', 'box head', 'mask head', 'losses of anchors and regions')
CONSTANT = ('proposals', 'sampled regions')  # No gradient passes.


@functools.cache
def _names(task):
    get_config, settings = CONFIGS[task]
    config = get_config()
    config.update_from_flattened_dict(settings)
    config = complete(config, num_examples=1000, num_classes=10, num_devices=1)
    devices = jax.devices()[:1]
    program = jax.make_jaxpr(build.train_step(config, devices))(*build.step_arguments(config, devices))
    return list(programs.names(program.jaxpr))


@pytest.mark.parametrize('task', CONFIGS)
def test_a_step_never_waits_for_the_host(task):
    names = _names(task)
    assert any('/optimizer/' in name for name in names)  # It is the whole step.
    primitives = {name.rpartition('/')[2] for name in names}
    assert not [x for x in primitives if 'callback' in x or x in ('debug_print', 'infeed', 'outfeed')]


def test_each_part_of_a_detector_is_known_in_the_account_of_its_step():
    found = {_part('fusion', name) for name in _names('detection')}
    expected = {f'{DETECTION}{part}, {way}' for part in PARTS for way in ('forward', 'backward')}
    expected |= {f'{DETECTION}{part}, forward' for part in CONSTANT}
    assert expected <= found
