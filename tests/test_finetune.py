"""What a run that starts from a checkpoint starts with."""

import jax
import pytest
import tiny_network

from nfnets import Variant, Weights
from nfnets.errors import InputError
from nfnets.finetune import start_from
from nfnets.models.networks import init_variables, make_network
from nfnets.weights.about import About

CLASSIFIER = 'NFNet/~/linear'


def _start(about=None, num_classes=3, class_names=('a', 'b', 'c'), activation='gelu', **settings):
    held = tiny_network.params(seed=1)
    fresh = tiny_network.params(num_classes=num_classes, seed=2)
    weights = Weights('x.npz', 'npz', held, about or About(), **settings)
    params, message = start_from(
        weights, fresh, class_names=class_names, network='NFNet', activation=activation
    )
    return held, fresh, jax.device_get(params), message


@pytest.mark.parametrize('about', [About(), About(('a', 'b', 'c'), activation='gelu')])
def test_on_the_same_classes_everything_is_taken(about):
    held, _, params, message = _start(about)
    tiny_network.assert_same(params, held)
    assert message == 'starting from x.npz (npz)'


@pytest.mark.parametrize(
    ('about', 'class_names'), [(About(), tuple('abcde')), (About(('a', 'b', 'd')), ('a', 'b', 'c'))]
)
def test_on_other_classes_the_classifier_is_new(about, class_names):
    held, fresh, params, message = _start(about, len(class_names), class_names)
    tiny_network.assert_same({CLASSIFIER: params.pop(CLASSIFIER)}, {CLASSIFIER: fresh[CLASSIFIER]})
    held.pop(CLASSIFIER)
    tiny_network.assert_same(params, held)
    assert message == f'starting from x.npz (npz), with a new classifier for {len(class_names)} classes'


def test_the_classifier_is_found_in_any_network():
    variant = Variant((8,), (1,), group_width=None)
    networks = [make_network('NFResNet', num_classes, variant) for num_classes in (3, 2)]
    held, fresh = (jax.device_get(init_variables(n, jax.random.key(i))[0]) for i, n in enumerate(networks))
    weights = Weights('x', 'workdir', held, About(network='NFResNet'), held)
    params, message = start_from(
        weights, fresh, class_names=('a', 'b'), network='NFResNet', activation='relu'
    )
    assert message.endswith('with a new classifier for 2 classes')
    name = 'NF_ResNet/~/linear'
    tiny_network.assert_same(jax.device_get(params), {**held, name: fresh[name]})


def test_the_ema_of_a_run_is_taken():
    average = tiny_network.params(seed=7)
    _, _, params, _ = _start(ema_params=average)
    tiny_network.assert_same(params, average)


def test_the_error_about_parameters_that_do_not_fit_names_the_classes_of_the_file():
    held, fresh = tiny_network.params(num_classes=10), tiny_network.params(num_classes=5)
    del held['NFNet/~/final_conv']['bias']
    with pytest.raises(InputError, match='with 10 classes') as error:
        start_from(
            Weights('x', 'npz', held, About()),
            fresh,
            class_names=tuple('abcde'),
            network='NFNet',
            activation='gelu',
        )
    assert 'num_classes' not in str(error.value)  # A new classifier has as many as it needs.
    assert 'linear' not in str(error.value)


def test_another_network_is_refused():
    with pytest.raises(InputError, match=r'with model\.name=NFNet, not ResNet'):
        start_from(Weights('x', 'npz', {}, About()), {}, class_names=(), network='ResNet', activation='relu')
    with pytest.raises(InputError, match=r'with model\.activation=relu, not gelu'):
        _start(About(activation='relu'))
    params = tiny_network.params()
    del params['NFNet/~/final_conv']
    with pytest.raises(InputError, match=r'x does not fit the network.*Missing: NFNet/~/final_conv/'):
        start_from(
            Weights('x', 'npz', params, About()),
            tiny_network.params(),
            class_names=('a', 'b', 'c'),
            network='NFNet',
            activation='gelu',
        )
