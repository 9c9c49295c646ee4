"""The cycles of a compiled training step by part, as XLA's TPU compiler estimates them.

Nearly every instruction of a program for TPUs carries an estimate of its cycles, and the name of what it was
traced from, with the modules and scopes around it. They say which part of the step it belongs to.
"""

import re
from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

from nfnets.data.operations import OPERATIONS
from nfnets.detection.mask_rcnn import NAME
from nfnets.planning import hlo

NOT_PLACED = 'not placed'
REPORTED = 'norms for the log, only at steps that are logged'
# The first that is found in an op_name, from the outside in.
_SCOPES = (
    (r'/all-reduce/', 'all-reduce'),
    (r'/all-gather/', 'all-gather'),
    (r'/metrics/', 'metrics'),
    (r'/agc/', 'AGC'),
    (r'/(optimizer|ema)/', 'momentum, weight decay, EMA'),
    (r'/standardize/', 'weight standardization'),
    (r'/stem/|/stem_conv\d|/initial_conv', 'stem'),
    (r'squeeze_excite', 'squeeze-excite'),
)
# Of a detector, besides its backbone.
DETECTION = 'detection: '
_DETECTION_SCOPES = (
    (r'/pyramid/', 'pyramid'),
    (r'/proposal_head/', 'proposal head'),
    (r'/_propose/', 'proposals'),
    (r'/_regions/', 'sampled regions'),
    (r'/box_head/', 'box head'),
    (r'/mask_head/', 'mask head'),
    (r'/_run_head/', 'RoIAlign'),
    (r'/_mask_losses/', 'loss of masks'),
    (r'', 'losses of anchors and regions'),
)
_COLLECTIVES = ('all-reduce', 'all-gather')
_CONVOLUTION = re.compile(r'/(conv\w*|final_conv)/')


class Part(NamedTuple):
    """A part of a step.

    Attributes:
      cycles: estimated, loops times their trip counts.
      bytes: of operands and results of its instructions, likewise; without padding.
    """

    cycles: int
    bytes: int


class Account(NamedTuple):
    """The estimate of a step.

    Attributes:
      parts: by name, most cycles first; they add up to the step. `NOT_PLACED` is what no name is known for.
      reported: extra cycles and bytes of a step whose norms are logged.
      not_placed: cycles by op_name or opcode, the most first.
    """

    parts: dict[str, Part]
    reported: Part
    not_placed: dict[str, int]

    @property
    def total(self) -> Part:
        """The whole of a step whose norms are not logged."""
        return Part(*map(sum, zip(*self.parts.values(), strict=True)))


def account(text: str) -> Account:
    """Reads what `jax.stages.Compiled.as_text` gives of a training step for TPUs."""
    program = hlo.parse(text)
    cycles, size, unknown = Counter[str](), Counter[str](), Counter[str]()
    for each in hlo.executed(program):
        instruction = each.instruction
        takes = Part(instruction.estimated_cycles * each.times, _bytes(each) * each.times)
        if not any(takes):
            continue
        names = _op_names(program, instruction)
        parts_of_names = (_part(instruction.opcode, name) for name in names)
        part = next((x for x in parts_of_names if x != NOT_PLACED), NOT_PLACED)
        cycles[part] += takes.cycles
        size[part] += takes.bytes
        if part == NOT_PLACED:
            unknown[names[0] or instruction.opcode] += takes.cycles
    parts = {name: Part(count, size[name]) for name, count in cycles.most_common()}
    return Account(parts, parts.pop(REPORTED, Part(0, 0)), dict(unknown.most_common(20)))


def _bytes(executed: hlo.Executed) -> int:
    """Bytes of operands and results; of a move beside other work, which has a start and an end, its end."""
    instruction = executed.instruction
    result = hlo.size_in_bytes(instruction.result)
    if instruction.opcode.endswith('-done'):
        return 2 * result
    if not instruction.estimated_cycles and not instruction.opcode.startswith(_COLLECTIVES):
        return 0  # Another name of what is there.
    return result + sum(hlo.size_in_bytes(executed.computation[x].result) for x in instruction.operands)


def _op_names(program: hlo.Program, instruction: hlo.Instruction) -> list[str]:
    """What it was traced from; of a fusion first its convolution or product: the rest is done on the way."""
    inside = list(_inside(program, instruction))
    products = [each.op_name for each in inside if each.opcode in ('convolution', 'dot')]
    return [*products, instruction.op_name, *(each.op_name for each in reversed(inside))]


def _inside(program: hlo.Program, instruction: hlo.Instruction) -> Iterator[hlo.Instruction]:
    if instruction.opcode == 'fusion':
        for each in program.computations[instruction.called['calls']].values():
            yield each
            yield from _inside(program, each)


def _part(opcode: str, name: str) -> str:
    if '/metrics/cond/' in name:
        return REPORTED
    for collective in _COLLECTIVES:
        if opcode.startswith(collective):
            return collective
    if opcode.endswith('-done'):
        return 'moves between memories, beside other work'
    if '/augment/' in name:
        operation = next((each for each in OPERATIONS if f'/{each}/' in name), None)
        return f'augmentation: {operation or "mixing, dealing, normalizing"}'
    for pattern, part in _SCOPES:
        if re.search(pattern, name):
            return part
    direction = 'backward' if 'transpose(' in name else 'forward'
    if f'/{NAME}/' in name and '/grids/' not in name:
        part = next(part for pattern, part in _DETECTION_SCOPES if re.search(pattern, name))
        return f'{DETECTION}{part}, {direction}'
    if found := _CONVOLUTION.search(name):
        return f'{found[1]}, {direction}'
    if re.search(r'jvp\(', name):
        return f'activations, pooling, shortcuts, head, {direction}'
    if opcode.startswith(('copy', 'slice')):
        return 'copies'
    return NOT_PLACED
