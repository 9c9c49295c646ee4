"""The paper's bfloat16 policy in a real network: what is in which precision, and how far the loss strays."""

import contextlib
import functools

import jax
import jax.numpy as jnp
import numpy as np
import programs
import pytest
import training_runs

from nfnets import build
from nfnets import config as config_lib
from nfnets.evaluate import make_eval_step
from nfnets.models import convolution
from nfnets.models.networks import init_variables
from nfnets.train import train_and_evaluate
from nfnets.train_state import init_train_state

SHORT = {**training_runs.TINY, 'train.steps': 60, 'optimizer.warmup_steps': 5.0, 'eval.every_steps': 60}


def _config(precision):
    return training_runs.config({**SHORT, 'train.precision': precision})


def test_convolutions_are_in_bfloat16_and_devices_add_up_float32():
    config = config_lib.complete(_config('bfloat16'), num_examples=1437, num_classes=10, num_devices=8)
    network = build.network(config)
    params, network_state = init_variables(network, jax.random.key(0))
    state = init_train_state(params, build.optimizer(config), network_state)
    batch = {'images': jnp.zeros((8, 8, 16, 16, 3), jnp.uint8), 'labels': jnp.zeros((8, 8), jnp.int32)}
    program = jax.make_jaxpr(build.train_step(config))(state, batch, jax.random.key(0))
    equations = list(programs.equations(program.jaxpr))
    convolved = {str(e.invars[0].aval.dtype) for e in equations if e.primitive.name == 'conv_general_dilated'}
    summed = [v.aval for e in equations if e.primitive.name.startswith('psum') for v in e.invars]
    assert convolved == {'bfloat16'}
    assert {str(aval.dtype) for aval in summed} == {'float32'}
    assert sum(aval.size for aval in summed) >= sum(p.size for p in jax.tree.leaves(params))


def _products(traced):
    names = ('conv_general_dilated', 'dot_general')
    equations = [e for e in programs.equations(traced.jaxpr) if e.primitive.name in names]
    assert len(equations) > 10
    # Of what is float32: a backend rounds nothing of what is bfloat16 already.
    return {e.params['precision'] for e in equations if e.invars[0].aval.dtype == jnp.float32}


HIGHEST = {(jax.lax.Precision.HIGHEST, jax.lax.Precision.HIGHEST)}


@pytest.mark.parametrize('changed', [{}, {'sam.rho': 0.05}, {'train.accumulate_steps': 2}])
def test_products_of_float32_training_and_their_gradients_are_float32_on_any_backend(changed):
    config = training_runs.config({**SHORT, **changed, 'train.precision': 'float32'})
    config = config_lib.complete(config, num_examples=1437, num_classes=10, num_devices=8)
    state = jax.eval_shape(functools.partial(build.new_state, config))
    batch = {'images': jnp.zeros((8, 8, 16, 16, 3), jnp.uint8), 'labels': jnp.zeros((8, 8), jnp.int32)}
    for only_xla in (contextlib.nullcontext, convolution.only_xla):
        with only_xla():
            assert (
                _products(jax.make_jaxpr(build.train_step(config))(state, batch, jax.random.key(0)))
                == HIGHEST
            )


def test_products_of_an_evaluation_are_float32_on_any_backend():
    config = config_lib.complete(_config('bfloat16'), num_examples=1437, num_classes=10, num_devices=8)
    network = build.network(config)
    variables = {'eval': init_variables(network, jax.random.key(0))}
    batch = {
        'images': jnp.zeros((8, 2, 16, 16, 3)),
        'labels': jnp.zeros((8, 2), jnp.int32),
        'mask': jnp.ones((8, 2)),
    }
    assert _products(jax.make_jaxpr(make_eval_step(network))(variables, batch)) == HIGHEST


def test_the_loss_of_a_short_run_follows_that_in_float32(tmp_path):
    losses = {}
    for precision in ('float32', 'bfloat16'):
        train_and_evaluate(_config(precision), tmp_path / precision)
        lines = training_runs.metrics(tmp_path / precision)
        losses[precision] = np.array([line['train/loss'] for line in lines if 'train/loss' in line])
    difference = np.abs(losses['bfloat16'] / losses['float32'] - 1)
    assert losses['float32'][-1] < 0.75 * losses['float32'][0]
    assert 0 < difference.max() < 0.05
    assert difference.mean() < 0.015
