"""The account of a program by part, on programs for TPUs as XLA prints them, cut down to what is read."""

import jax
import jax.numpy as jnp
import pytest

from nfnets.planning import hlo
from nfnets.planning.account import NOT_PLACED, account
from nfnets.planning.compiler import tpu_devices
from nfnets.planning.tpus import DEVICES

PROGRAM = """HloModule jit_step, is_scheduled=true

%fused_computation.1 (param_0: bf16[2,8,8,16], param_1: bf16[3,3,16,16]) -> bf16[2,8,8,16] {
  %param_0 = bf16[2,8,8,16]{3,2,1,0:T(8,128)(2,1)} parameter(0)
  %param_1 = bf16[3,3,16,16]{3,2,1,0:T(8,128)(2,1)} parameter(1)
  %convolution.1 = bf16[2,8,8,16]{3,2,1,0} convolution(%param_0, %param_1), window={size=3x3 pad=1_1x1_1}, dim_labels=b01f_01io->b01f, metadata={op_name="jit(step)/jvp(NFNet)/nf_block/branch/conv1/conv_general_dilated"}
  ROOT %add.1 = bf16[2,8,8,16]{3,2,1,0} add(%convolution.1, %param_0), metadata={op_name="jit(step)/jvp(NFNet)/nf_block/add"}
}

%fused_computation.2 (param_0.2: f32[16]) -> f32[] {
  %param_0.2 = f32[16]{0} parameter(0)
  ROOT %reduce.1 = f32[] reduce(%param_0.2), dimensions={0}
}

%body.1 (state: (s32[], bf16[2,8,8,16], bf16[3,3,16,16], s32[])) -> (s32[], bf16[2,8,8,16], bf16[3,3,16,16], s32[]) {
  %state = (s32[], bf16[2,8,8,16]{3,2,1,0}, bf16[3,3,16,16]{3,2,1,0}, s32[]) parameter(0)
  %get-tuple-element.1 = s32[] get-tuple-element(%state), index=0
  %get-tuple-element.2 = bf16[2,8,8,16]{3,2,1,0} get-tuple-element(%state), index=1
  %get-tuple-element.3 = bf16[3,3,16,16]{3,2,1,0} get-tuple-element(%state), index=2
  %fusion.1 = bf16[2,8,8,16]{3,2,1,0} fusion(%get-tuple-element.2, %get-tuple-element.3), kind=kOutput, calls=%fused_computation.1, metadata={op_name="jit(step)/jvp(NFNet)/nf_block/add"}, backend_config={"window_config":{"estimated_cycles":"100"}}
  ROOT %tuple.1 = (s32[], bf16[2,8,8,16]{3,2,1,0}, bf16[3,3,16,16]{3,2,1,0}, s32[]) tuple(%get-tuple-element.1, %fusion.1, %get-tuple-element.3)
}

%condition.1 (state.1: (s32[], bf16[2,8,8,16], bf16[3,3,16,16], s32[])) -> pred[] {
  %state.1 = (s32[], bf16[2,8,8,16]{3,2,1,0}, bf16[3,3,16,16]{3,2,1,0}, s32[]) parameter(0)
  %get-tuple-element.4 = s32[] get-tuple-element(%state.1), index=0
  STOP
  ROOT %compare.1 = pred[] compare(%get-tuple-element.4, %stop), direction=LT
}

%branch.1 (operands: (f32[16])) -> f32[] {
  %operands = (f32[16]{0}) parameter(0)
  %get-tuple-element.5 = f32[16]{0} get-tuple-element(%operands), index=0
  ROOT %fusion.2 = f32[] fusion(%get-tuple-element.5), kind=kLoop, calls=%fused_computation.2, metadata={op_name="jit(step)/metrics/cond/branch_1_fun/reduce_sum"}, backend_config={"window_config":{"estimated_cycles":"7000"}}
}

%branch.2 (operands.1: (f32[16])) -> f32[] {
  %operands.1 = (f32[16]{0}) parameter(0)
  ROOT %constant.9 = f32[] constant(0)
}

ENTRY %main.1 (images: bf16[2,8,8,16], kernel: bf16[3,3,16,16], norm: f32[16], index: s32[]) -> f32[16] {
  %images = bf16[2,8,8,16]{3,2,1,0} parameter(0)
  %kernel = bf16[3,3,16,16]{3,2,1,0} parameter(1)
  %norm = f32[16]{0} parameter(2)
  %index = s32[] parameter(3)
  %constant.1 = s32[] constant(0)
  %constant.2 = s32[] constant(4)
  %copy.1 = s32[] copy(%constant.2)
  %tuple.2 = (s32[], bf16[2,8,8,16]{3,2,1,0}, bf16[3,3,16,16]{3,2,1,0}, s32[]) tuple(%constant.1, %images, %kernel, %copy.1)
  %while.1 = (s32[], bf16[2,8,8,16]{3,2,1,0}, bf16[3,3,16,16]{3,2,1,0}, s32[]) while(%tuple.2), condition=%condition.1, body=%body.1
  %tuple.3 = (f32[16]{0}) tuple(%norm)
  %conditional.1 = f32[] conditional(%index, %tuple.3, %tuple.3), branch_computations={%branch.2, %branch.1}
  %multiply.1 = f32[16]{0} multiply(%norm, %norm), metadata={op_name="jit(step)/optimizer/agc/mul"}, backend_config={"window_config":{"estimated_cycles":"30"}}
  %copy.2 = f32[16]{0} copy(%multiply.1), backend_config={"window_config":{"estimated_cycles":"2"}}
  ROOT %negate.1 = f32[16]{0} negate(%copy.2), metadata={op_name="jit(step)/neg"}, backend_config={"window_config":{"estimated_cycles":"1"}}
}
"""  # noqa: E501
CARRIED = '%stop = s32[] get-tuple-element(%state.1), index=3'
ACTIVATIONS, KERNEL, NORM = 2 * 2 * 8 * 8 * 16, 2 * 3 * 3 * 16 * 16, 4 * 16  # Bytes.


@pytest.mark.parametrize('stop', ['%stop = s32[] constant(4)', CARRIED])
def test_what_is_in_a_loop_counts_as_often_as_it_runs_and_in_the_part_of_its_convolution(stop):
    found = account(PROGRAM.replace('STOP', stop))
    assert {name: part.cycles for name, part in found.parts.items()} == {
        'conv1, forward': 4 * 100,
        'AGC': 30,
        'copies': 2,
        NOT_PLACED: 1,
    }
    assert found.parts['conv1, forward'].bytes == 4 * (2 * ACTIVATIONS + KERNEL)
    assert found.parts['AGC'].bytes == 3 * NORM
    assert found.total.cycles == 433
    assert found.reported == (7000, NORM + 4)
    assert found.not_placed == {'jit(step)/neg': 1}


def test_a_loop_that_ends_by_its_data_counts_once():
    stop = '%stop = s32[] custom-call(), custom_call_target="AnyOne"'
    assert account(PROGRAM.replace('STOP', stop)).parts['conv1, forward'].cycles == 100


@pytest.mark.parametrize(
    ('name', 'part'),
    [
        ('_look/MaskRCNN/grids/NF_ResNet/nf_res_block/conv1/dot_general', 'conv1, forward'),
        ('_look/MaskRCNN/pyramid/output2/conv_general_dilated', 'detection: pyramid, forward'),
        ('_propose/MaskRCNN/vmap()/top_k', 'detection: proposals, forward'),
        ('_boxes/MaskRCNN/_run_head/MaskRCNN/vmap()/rph,hwc->rpwc', 'detection: RoIAlign, forward'),
        ('_masks/MaskRCNN/_run_head/MaskRCNN/mask_head/conv0/dot', 'detection: mask head, forward'),
        ('vmap()/gather', 'detection: losses of anchors and regions, forward'),
    ],
)
def test_a_detector_s_parts_are_told_from_its_backbone_s(name, part):
    old = 'jit(step)/jvp(NFNet)/nf_block/branch/conv1/conv_general_dilated'
    program = PROGRAM.replace('STOP', CARRIED)
    found = account(program.replace(old, 'jit(step)/jvp(losses)/MaskRCNN/' + name))
    assert found.parts[part].cycles == 4 * 100


def test_the_tpu_compiler_s_own_program_is_read_with_its_loops():
    devices = tpu_devices(DEVICES['v3'])
    if devices is None:
        pytest.skip('needs libtpu')

    def run(x, weights):
        return jax.lax.scan(lambda x, w: (jnp.sin(x @ w), None), x, weights)[0]

    place = jax.sharding.SingleDeviceSharding(devices[0])
    shapes = [jax.ShapeDtypeStruct(s, jnp.bfloat16, sharding=place) for s in ((256, 512), (5, 512, 512))]
    program = hlo.parse(jax.jit(run).lower(*shapes).compile().as_text())
    times = [x.times for x in hlo.executed(program) if 'dot_general' in x.instruction.op_name]
    assert times
    assert set(times) == {5}
