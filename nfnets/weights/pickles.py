"""Reads pickles of arrays without running them.

Unpickling calls whatever a file names. Here nothing is unpickled: a small machine follows the file's
instructions over values of its own, and each name that a file may use stands for a function of this project.
Every other name, call or instruction ends it. It imports nothing, builds nothing larger than the file, and
takes one pass over it.
"""

import pickletools
import struct
from collections.abc import Callable, Mapping
from typing import IO, Any, NamedTuple, Protocol, cast

_MOST_INSTRUCTIONS = 1_000_000  # F7's parameters take 60,000.
_MARK = object()
_INSTRUCTIONS = {opcode.code.encode('latin-1'): opcode for opcode in pickletools.opcodes}
_CONSTANTS = {'NONE': None, 'NEWTRUE': True, 'NEWFALSE': False, 'EMPTY_TUPLE': ()}
_LITERALS = frozenset(
    {
        *('BININT', 'BININT1', 'BININT2', 'LONG1', 'BINFLOAT'),
        *('BINUNICODE', 'SHORT_BINUNICODE', 'BINUNICODE8'),
        *('BINBYTES', 'SHORT_BINBYTES', 'BINBYTES8', 'BYTEARRAY8'),
    }
)
_KNOWN = (
    _LITERALS
    | _CONSTANTS.keys()
    | {
        *('PROTO', 'FRAME', 'STOP', 'MARK', 'MEMOIZE', 'BINPUT', 'LONG_BINPUT', 'BINGET', 'LONG_BINGET'),
        *('EMPTY_DICT', 'EMPTY_LIST', 'TUPLE', 'TUPLE1', 'TUPLE2', 'TUPLE3', 'APPEND', 'APPENDS', 'SETITEM'),
        *('SETITEMS', 'GLOBAL', 'STACK_GLOBAL', 'REDUCE', 'BUILD', 'BINPERSID'),
    }
)


class Refused(Exception):
    """The file asks for what arrays and mappings do not need, or is damaged."""


class Stream(Protocol):
    """A binary file, or one that is mapped."""

    def read(self, size: int = ..., /) -> bytes: ...
    def readline(self) -> bytes: ...
    def tell(self) -> int: ...
    def seek(self, position: int, /) -> Any: ...


class Name(NamedTuple):
    """A global that a pickle names, and the function that stands for it here (None: it cannot be called)."""

    path: str
    call: Callable[..., Any] | None = None


class Unfinished:
    """A value whose content arrives after its making (the instruction BUILD)."""

    def build(self, state: Any) -> None:
        """Takes the content; a wrong one may raise ValueError or TypeError."""
        raise NotImplementedError


def load(stream: Stream, names: Mapping[str, Name], persistent: Callable[[Any], Any] | None = None) -> Any:
    """Reads the pickle that a stream is at, and leaves the stream behind it.

    Args:
      stream: of the file.
      names: what the file may name, by 'module.name'.
      persistent: gives the value of a persistent id; None if the file can have none.

    Returns:
      Dicts, lists, tuples, strings, bytes, numbers, `Name`s and what the calls made.

    Raises:
      Refused: names the first thing that is not allowed.
    """
    machine = _Machine(names, persistent)
    try:
        for _ in range(_MOST_INSTRUCTIONS):
            instruction, argument = _read_instruction(stream)
            if instruction == 'STOP':
                return machine.result()
            machine.step(instruction, argument)
        raise Refused(f'it has more than {_MOST_INSTRUCTIONS:,} instructions')
    except (ValueError, TypeError, LookupError, AttributeError, OverflowError, struct.error) as error:
        raise Refused(f'it is damaged: {error}') from error


def _read_instruction(stream: Stream) -> tuple[str, Any]:
    code = stream.read(1)
    if code not in _INSTRUCTIONS:
        raise ValueError('it ends early' if not code else f'{code!r} is no instruction')
    opcode = _INSTRUCTIONS[code]
    if opcode.name not in _KNOWN:  # Before its argument is read: some take long to.
        raise Refused(f'it uses the instruction {opcode.name}')
    if opcode.name == 'GLOBAL':  # Two lines, which pickletools would take escapes out of.
        return opcode.name, '.'.join(stream.readline().decode().removesuffix('\n') for _ in range(2))
    return opcode.name, opcode.arg.reader(cast(IO[bytes], stream)) if opcode.arg else None


class _Machine:
    """The stack and the memo of a pickle being read."""

    def __init__(self, names: Mapping[str, Name], persistent: Callable[[Any], Any] | None):
        self._names = names
        self._persistent = persistent
        self._stack: list[Any] = []
        self._memo: dict[int, Any] = {}

    def result(self) -> Any:
        if len(self._stack) != 1:
            raise ValueError(f'{len(self._stack)} values are left where one should be')
        return self._stack[0]

    def step(self, instruction: str, argument: Any) -> None:
        """Follows one instruction."""
        stack = self._stack
        match instruction:
            case 'PROTO' | 'FRAME':
                pass
            case _ if instruction in _CONSTANTS:
                stack.append(_CONSTANTS[instruction])
            case _ if instruction in _LITERALS:
                stack.append(argument)
            case 'MARK':
                stack.append(_MARK)
            case 'MEMOIZE':
                self._memo[len(self._memo)] = stack[-1]
            case 'BINPUT' | 'LONG_BINPUT':
                self._memo[argument] = stack[-1]
            case 'BINGET' | 'LONG_BINGET':
                stack.append(self._memo[argument])
            case 'EMPTY_DICT':
                stack.append({})
            case 'EMPTY_LIST':
                stack.append([])
            case 'TUPLE1' | 'TUPLE2' | 'TUPLE3':
                stack.append(tuple(self._pop(int(instruction[-1]))))
            case 'TUPLE':
                stack.append(tuple(self._pop_to_mark()))
            case 'APPEND':
                self._append(self._pop(1))
            case 'APPENDS':
                self._append(self._pop_to_mark())
            case 'SETITEM':
                self._set_items(self._pop(2))
            case 'SETITEMS':
                self._set_items(self._pop_to_mark())
            case 'GLOBAL':
                stack.append(self.name(argument))
            case 'STACK_GLOBAL':
                stack.append(self.name('.'.join(self._pop(2))))
            case 'REDUCE':
                stack.append(self._call(*self._pop(2)))
            case 'BUILD':
                self._build(*self._pop(1))
            case 'BINPERSID' if self._persistent is not None:
                stack.append(self._persistent(*self._pop(1)))
            case _:
                raise Refused(f'it uses the instruction {instruction}')

    def name(self, path: str) -> Name:
        """The stand-in for a global by its name; raises Refused if there is none."""
        if path not in self._names:
            raise Refused(f'it names {path}')
        return self._names[path]

    def _pop(self, count: int) -> list[Any]:
        values = self._stack[-count:]
        if len(values) < count or any(value is _MARK for value in values):
            raise ValueError('an instruction lacks its values')
        del self._stack[-count:]
        return values

    def _pop_to_mark(self) -> list[Any]:
        values = []
        while (value := self._stack.pop()) is not _MARK:
            values.append(value)
        return values[::-1]

    def _append(self, values: list[Any]) -> None:
        if not isinstance(self._stack[-1], list):
            raise Refused(f'it appends to {_describe(self._stack[-1])}')
        self._stack[-1].extend(values)

    def _set_items(self, values: list[Any]) -> None:
        target, keys = self._stack[-1], values[::2]
        if not isinstance(target, dict):
            raise Refused(f'it sets items of {_describe(target)}')
        # Nothing but strings is hashed: a tuple of tuples of one tuple can take for ever.
        if not all(isinstance(key, str) for key in keys):
            raise Refused('it has a mapping whose keys are not strings')
        target.update(zip(keys, values[1::2], strict=True))

    def _call(self, function: Any, arguments: Any) -> Any:
        if not isinstance(function, Name) or function.call is None or not isinstance(arguments, tuple):
            raise Refused(f'it calls {_describe(function)}')
        return function.call(*arguments)

    def _build(self, state: Any) -> None:
        target = self._stack[-1]
        if isinstance(target, Unfinished):
            target.build(state)
        elif not isinstance(target, dict):  # A mapping's own attributes do not matter.
            raise Refused(f'it sets the state of {_describe(target)}')


def _describe(value: Any) -> str:
    return value.path if isinstance(value, Name) else f'a value of type {type(value).__name__}'
