"""The paper's bfloat16 policy in a real network: what is in which precision, and how far the loss strays."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import programs
import pytest
import training_runs

from nfnets import build
from nfnets import config as config_lib
from nfnets.data.augment import AugmentedBatch
from nfnets.evaluation.evaluate import make_eval_step
from nfnets.models.networks import shapes_of, variable_shapes
from nfnets.tasks.classification_loss import make_loss_fn

SHORT = {
    **training_runs.TINY,
    **training_runs.NFNET,
    'train.steps': 30,
    'optimizer.warmup_steps': 5.0,
}
SCANNED = {'model.scan': True, 'model.depths': (3,)}


def _config(precision):
    return training_runs.config({**SHORT, 'train.precision': precision})


def _complete(config):
    return config_lib.complete(config, num_examples=1437, num_classes=10, num_devices=8)


def _step_equations(config):
    """Of the training step on eight devices, traced."""
    state = shapes_of(functools.partial(build.new_state, config))
    batch = {'images': jnp.zeros((8, 8, 16, 16, 3), jnp.uint8), 'labels': jnp.zeros((8, 8), jnp.int32)}
    program = jax.make_jaxpr(build.train_step(config))(state, batch, jax.random.key(0))
    return list(programs.equations(program.jaxpr)), state


def test_products_are_in_bfloat16_and_devices_add_up_float32():
    equations, state = _step_equations(_complete(_config('bfloat16')))
    convolved = {str(v.aval.dtype) for e in equations if 'convolve' in e.primitive.name for v in e.invars}
    summed = [v.aval for e in equations if e.primitive.name.startswith('psum') for v in e.invars]
    assert convolved == {'bfloat16'}
    assert {str(aval.dtype) for aval in summed} == {'float32'}
    assert sum(aval.size for aval in summed) >= sum(p.size for p in jax.tree.leaves(state.params))


def _assert_highest(equations):
    """That a backend may round no factor of a product of float32 (nothing is left to round in bfloat16)."""
    products = [e for e in equations if e.primitive.name in programs.PRODUCTS]
    assert len(products) > 10
    message = {
        (e.primitive.name, e.params['precision']) for e in products if e.invars[0].aval.dtype == 'float32'
    }
    highest = jax.lax.Precision.HIGHEST
    for name, precision in message:
        assert precision == ((highest, highest) if name == 'dot_general' else 'highest'), name
    return {name for name, _ in message}


@pytest.mark.parametrize('changed', [{}, {'sam.rho': 0.05}, {'train.accumulate_steps': 2}, SCANNED])
def test_products_of_float32_training_and_their_gradients_are_float32_on_any_backend(changed):
    config = training_runs.config({**SHORT, **changed, 'train.precision': 'float32'})
    equations, _ = _step_equations(_complete(config))
    assert _assert_highest(equations) == set(programs.PRODUCTS)


def test_products_of_an_evaluation_are_float32_on_any_backend():
    config = _complete(_config('bfloat16'))
    network = build.network(config)
    variables = {'eval': variable_shapes(network)}
    batch = {
        'images': jnp.zeros((8, 2, 16, 16, 3)),
        'labels': jnp.zeros((8, 2), jnp.int32),
        'mask': jnp.ones((8, 2)),
    }
    program = jax.make_jaxpr(make_eval_step(network))(variables, batch, {})
    assert _assert_highest(programs.equations(program.jaxpr)) == {'convolve', 'dot_general'}


@pytest.mark.parametrize('platform', ['tpu', 'cpu'])
@pytest.mark.parametrize('precision', ['float32', 'bfloat16'])
def test_the_lowered_precision_is_that_of_every_product_and_of_its_gradients(platform, precision):
    config = _complete(_config(precision))
    loss_fn = make_loss_fn(build.network(config), num_classes=10, label_smoothing=0.1, precision=precision)
    params, network_state = variable_shapes(build.network(config))
    labels = jax.ShapeDtypeStruct((4,), jnp.int32)
    images = jax.ShapeDtypeStruct((4, 16, 16, 3), jnp.float32)
    batch = AugmentedBatch(images, labels, labels, jax.ShapeDtypeStruct((4,), jnp.float32))
    value_and_grad = build.value_and_grad(config)(functools.partial(loss_fn, network_state))
    traced = jax.jit(value_and_grad).trace(params, batch, jax.random.key(0))
    text = traced.lower(lowering_platforms=(platform,)).as_text()
    products = {
        kind: [line for line in text.splitlines() if f'stablehlo.{kind}' in line]
        for kind in ('convolution', 'dot_general')
    }
    if platform == 'tpu':
        # Of the stem 4, of a block 4 and its shortcut, and the last; none has a gradient of the images.
        assert len(products['convolution']) == 3 * (4 + 5 + 1) - 1
        # Of squeeze-excite, and the classifier; and two that lay out each of the stem's kernels over blocks.
        assert len(products['dot_general']) == 3 * (2 + 1) + 2 * 2 * 4
    message = {'convolution': r'precision_config = \[([^]]*)\]', 'dot_general': r'precision = \[([^]]*)\]'}
    for kind, lines in products.items():
        for line in lines:
            is_highest = re.search(message[kind], line)[1].count('HIGHEST') == 2
            assert is_highest == (precision == 'float32'), line
            assert ('bf16' in line) == (precision == 'bfloat16')


def _losses(precision):
    """Of a short run on one device, without what has nothing to do with precision."""
    config = _config(precision)
    config.augment.randaugment_layers, config.augment.cutmix, config.augment.mixup_alpha = 0, False, 0.0
    config = _complete(config)
    batches = build.train_batches(config, build.source(config, 'train'), position=0)
    step = build.train_step(config, jax.devices()[:1])
    state, losses = jax.jit(functools.partial(build.new_state, config))(), []
    for _ in range(config.train.steps):
        batch = {name: value[None] for name, value in next(batches).items()}
        state, metrics = step(state, batch, jax.random.key(1))
        losses.append(metrics['loss'])
    batches.close()
    return np.array(jax.device_get(losses))


def test_the_loss_of_a_short_run_follows_that_in_float32():
    exact, rounded = _losses('float32'), _losses('bfloat16')
    difference = np.abs(rounded / exact - 1)
    assert exact[-1] < 0.75 * exact[0]
    assert 0 < difference.max() < 0.05
    assert difference.mean() < 0.015
