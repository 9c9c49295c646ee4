"""What a detector takes of a checkpoint, by name and shape."""

import jax
import numpy as np
import pytest
from etils import epath

from nfnets import config as config_lib
from nfnets.build import variable_shapes
from nfnets.configs import scenes
from nfnets.errors import InputError
from nfnets.tasks import detection
from nfnets.weights.about import About
from nfnets.weights.load import Weights

SIZES = {
    'model.widths': (8, 8, 8, 8),
    'model.depths': (1, 1, 1, 1),
    'model.group_width': 4,
    'detection.channels': 8,
    'detection.hidden': 8,
}
CLASSES = ('cat', 'dog', 'cow')


def _config(task, classes=3, **changed):
    config = scenes.get_config()
    config.update_from_flattened_dict({**SIZES, **changed})
    if task == 'classification':
        config.task, config.data.source = 'classification', 'folder'
    config_lib.check(config)
    return config_lib.complete(config, num_examples=100, num_classes=classes, num_devices=1)


def _params(config, value):
    shapes, _ = variable_shapes(config)
    return jax.tree.map(lambda x: np.full(x.shape, value, np.float32), shapes)


def _weights(config, names=None):
    about = About(class_names=names, network='NFNet', activation='gelu')
    return Weights(epath.Path('CHECKPOINT'), 'workdir', _params(config, 1.0), about)


def _taken(params):
    return {module for module, names in params.items() if all(np.all(x == 1.0) for x in names.values())}


def test_of_a_classifier_stem_and_stages_are_taken_and_all_else_is_new():
    config = _config('detection')
    params, message = detection.start_from(
        config, _weights(_config('classification', classes=7)), _params(config, 0.0), CLASSES
    )
    assert _taken(params) == {module for module in params if module.startswith('NFNet/')}
    assert (
        message == 'starting from CHECKPOINT (workdir), its stem and stages, with a new pyramid and new heads'
    )


def test_of_a_detector_of_other_classes_all_is_taken_that_says_nothing_of_them():
    config = _config('detection')
    fresh = _params(config, 0.0)
    heads = {
        f'MaskRCNN/~/{name}' for name in ('box_head/~/logits', 'box_head/~/shifts', 'mask_head/~/logits')
    }
    for classes, names, new in ((3, CLASSES, set()), (3, ('a', 'b', 'c'), heads), (5, None, heads)):
        params, message = detection.start_from(
            config, _weights(_config('detection', classes=classes), names), fresh, CLASSES
        )
        assert params.keys() - _taken(params) == new
        listed = 'all but box_head/~/logits, box_head/~/shifts, mask_head/~/logits, which are new'
        assert message.endswith(listed if new else ', all of it')


@pytest.mark.parametrize(
    ('changed', 'message'),
    [
        ({'model.depths': (1, 2, 1, 1)}, r'CHECKPOINT does not fit .*Unexpected: NFNet/~/nf_block_4/'),
        ({'model.widths': (8, 8, 8, 16)}, r'it holds a network of widths \(8, 8, 8, 16\), '),
    ],
)
def test_other_stages_are_refused(changed, message):
    config, other = _config('detection'), _config('classification', **changed)
    with pytest.raises(InputError, match=message):
        detection.start_from(config, _weights(other), _params(config, 0.0), CLASSES)


def test_a_detector_has_no_parameters_behind_its_stages_but_its_own():
    detector, classifier = (set(_params(_config(task), 0.0)) for task in ('detection', 'classification'))
    assert classifier - detector == {'NFNet/~/final_conv', 'NFNet/~/linear'}
    assert all(module.startswith('MaskRCNN/~/') for module in detector - classifier)
