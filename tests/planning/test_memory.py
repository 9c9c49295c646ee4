"""The memory of a compiled program, against sizes counted by hand."""

import math

import jax
import jax.numpy as jnp
import pytest
from pure_nfnet import parameter_shapes
from training_runs import TINY

from nfnets import build
from nfnets import config as config_lib
from nfnets.configs import digits
from nfnets.planning.memory import memory_of, row_bytes

SIDE = 256
BYTES = 4 * SIDE * SIDE  # Of one matrix.


def _product(x, y):
    return (x @ y) @ y  # The first product is the only temporary.


@pytest.mark.parametrize(('donate', 'matrices'), [((), 4), ((0,), 3)])
def test_matrices_are_counted_once_and_a_result_in_the_place_of_an_argument_not_at_all(donate, matrices):
    shape = jax.ShapeDtypeStruct((SIDE, SIDE), jnp.float32)
    memory = memory_of(jax.jit(_product, donate_argnums=donate).lower(shape, shape).compile())
    assert memory.arguments == 2 * BYTES
    assert BYTES <= memory.temporaries < 1.01 * BYTES
    assert matrices * BYTES <= memory.peak < (matrices + 0.01) * BYTES


@pytest.mark.parametrize(('partners', 'images'), [('batch', 8), ('fresh', 16)])
def test_a_training_step_is_lowered_for_its_state_and_each_device_s_part_of_the_batch(partners, images):
    config = digits.get_config()
    config.update_from_flattened_dict({**TINY, 'augment.partners': partners, 'augment.mixup_alpha': 0.2})
    config = config_lib.complete(config, num_examples=1437, num_classes=10, num_devices=8)
    (state, batch, _), _ = build.lower_train_step(config).args_info
    assert batch['images'].shape == (8, images, 16, 16, 3)
    assert batch['labels'].shape == (8, images)
    values = sum(p.size for p in jax.tree.leaves(parameter_shapes(build.network(config))))
    # Parameters, their average and their momentum; then a few counters.
    assert 3 * values <= sum(math.prod(x.shape) for x in jax.tree.leaves(state)) <= 3 * values + 8


def test_of_rows_a_device_has_its_part_rounded_up_and_of_few_all():
    shapes = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in ((3, 3, 100, 8), (5,), (6, 9))]
    # 13 of 100 rows of 9 x 8; what has no rows; 6 rows for 8 devices.
    assert row_bytes(shapes, 8) == 4 * (9 * 13 * 8 + 5 + 54)
