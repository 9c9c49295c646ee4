"""Reads the text of a program that XLA has optimized: its instructions, and how often each runs."""

import re
from collections.abc import Iterator
from typing import NamedTuple

_HEAD = re.compile(r'^(ENTRY )?%(\S+) \(.*\{$')
_LINE = re.compile(r'^  (ROOT )?%(\S+) = (.*)$')
_OPCODE = re.compile(r' ([a-z][a-z0-9\-]*)\((.*)$')
_NAME = re.compile(r'%([^\s,(){}]+)')
_SHAPE = re.compile(r'\b(pred|[a-z]+(\d+)[a-z0-9]*)\[([\d,]*)\]')
_CYCLES = re.compile(r'"estimated_cycles":"(\d+)"')
_OP_NAME = re.compile(r'metadata=\{[^}]*op_name="([^"]*)"')
_CALLED = re.compile(r'(?:calls|to_apply|body|condition|true_computation|false_computation)=%([^\s,]+)')
_BRANCHES = re.compile(r'branch_computations=\{([^}]*)\}')


class Instruction(NamedTuple):
    """An instruction of a computation.

    Attributes:
      name: unique in the program.
      opcode: as 'fusion'.
      result: its type, as XLA writes it.
      operands: names of the instructions whose results it takes.
      rest: of its line, from the operands on.
      is_root: whether its result is that of the computation.
    """

    name: str
    opcode: str
    result: str
    operands: tuple[str, ...]
    rest: str
    is_root: bool

    @property
    def estimated_cycles(self) -> int:
        """The compiler's estimate for one execution; 0 if it gives none."""
        found = _CYCLES.search(self.rest)
        return int(found[1]) if found else 0

    @property
    def op_name(self) -> str:
        """What it was traced from, as 'jit(step)/NFNet/stem_conv0/conv'; '' if not known."""
        found = _OP_NAME.search(self.rest)
        return found[1] if found else ''

    @property
    def called(self) -> dict[str, str]:
        """Computations that it calls, by role: 'calls', 'to_apply', 'body', 'condition', 'branch0' ..."""
        roles = {found[0].split('=')[0]: found[1] for found in _CALLED.finditer(self.rest)}
        if branches := _BRANCHES.search(self.rest):
            roles |= {f'branch{k}': name for k, name in enumerate(_NAME.findall(branches[1]))}
        return roles


class Program(NamedTuple):
    """A program.

    Attributes:
      computations: instructions by name, of each computation by name.
      entry: name of the computation that is run.
    """

    computations: dict[str, dict[str, Instruction]]
    entry: str


class Executed(NamedTuple):
    """An instruction with how often a run of the program executes it.

    Attributes:
      instruction: not within a fusion.
      times: product of the trip counts of the loops around it.
      computation: that it is in.
    """

    instruction: Instruction
    times: int
    computation: dict[str, Instruction]


def parse(text: str) -> Program:
    """Parses what `jax.stages.Compiled.as_text` gives."""
    computations: dict[str, dict[str, Instruction]] = {}
    entry, current = '', {}
    for line in text.splitlines():
        if head := _HEAD.match(line):
            current = computations.setdefault(head[2], {})
            entry = head[2] if head[1] else entry
        elif found := _LINE.match(line):
            instruction = _instruction(found[2], found[3], bool(found[1]))
            current[instruction.name] = instruction
    return Program(computations, entry)


def _instruction(name: str, text: str, is_root: bool) -> Instruction:
    end = _closing(text, 0) + 1 if text.startswith('(') else text.index(' ')
    found = _OPCODE.match(text[end:])
    assert found, text
    arguments = found[2][: _closing('(' + found[2], 0) - 1]
    return Instruction(name, found[1], text[:end], tuple(_NAME.findall(arguments)), found[2], is_root)


def _closing(text: str, begin: int) -> int:
    depth = 0
    for place in range(begin, len(text)):
        depth += {'(': 1, ')': -1}.get(text[place], 0)
        if depth == 0:
            return place
    raise ValueError(f'no end of what begins with {text[:80]!r}')


def size_in_bytes(result: str) -> int:
    """Bytes of a type as XLA writes it, of all parts of a tuple; padding is not counted."""
    total = 0
    for kind, bits, dims in _SHAPE.findall(result):
        count = 1
        for dim in filter(None, dims.split(',')):
            count *= int(dim)
        total += count * (1 if kind == 'pred' else max(1, int(bits) // 8))
    return total


def executed(program: Program) -> Iterator[Executed]:
    """All instructions outside of fusions, with their times; a loop whose end depends on data counts once."""
    yield from _executed(program, program.entry, 1)


def _executed(program: Program, name: str, times: int) -> Iterator[Executed]:
    computation = program.computations[name]
    for instruction in computation.values():
        yield Executed(instruction, times, computation)
        if instruction.opcode not in ('while', 'conditional', 'call'):
            continue  # What others call is a part of them.
        trips = (trip_count(program, computation, instruction) or 1) if instruction.opcode == 'while' else 1
        for called in instruction.called.values():
            yield from _executed(program, called, times * trips)


def trip_count(program: Program, around: dict[str, Instruction], loop: Instruction) -> int | None:
    """How often the body of a 'while' runs that counts up by one; None if that depends on data.

    Args:
      program: with the loop's condition.
      around: the computation that the loop is in.
      loop: the instruction.
    """
    condition = program.computations[loop.called['condition']]
    (root,) = (x for x in condition.values() if x.is_root)
    if root.opcode != 'compare' or 'direction=LT' not in root.rest:
        return None
    start, stop = (_constant(condition, around, loop, operand) for operand in root.operands)
    return None if start is None or stop is None else max(0, stop - start)


def _constant(
    inside: dict[str, Instruction], around: dict[str, Instruction], loop: Instruction, name: str
) -> int | None:
    """The integer that a value in a loop's condition has at first, found through copies and tuples."""
    value = inside.get(name)
    while value is not None:
        if value.opcode == 'constant':
            found = re.match(r'(-?\d+)\)', value.rest)
            return int(found[1]) if found else None
        if value.opcode == 'get-tuple-element' and inside[value.operands[0]].opcode == 'parameter':
            if inside is around:
                return None
            index = re.search(r'index=(\d+)', value.rest)
            assert index
            carried = around[loop.operands[0]]
            if carried.opcode != 'tuple':
                return None
            inside, value = around, around.get(carried.operands[int(index[1])])
        elif value.opcode in ('copy', 'bitcast', 'convert'):
            value = inside.get(value.operands[0])
        else:
            return None
    return None
