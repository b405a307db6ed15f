"""Reads pickles of weights, and builds nothing but data: numbers, text, tuples, lists, dicts.

A pickle is a program for a small stack machine, and one of its instructions calls any function of any module that it
names.  This machine has only the instructions that weights need.  A name means what the caller's table says, or the
pickle is refused; what a pickle calls must be a `Constructor` of that table.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO

from tinyseg.errors import CheckpointError
from tinyseg.interop.text import shown

__all__ = ["Constructor", "unpickle"]

_MOST_OPERATIONS = 5_000_000                         # a tensor takes about 30, and an operation a hundred bytes
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_LITERALS = {"BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "BINUNICODE", "SHORT_BINUNICODE",
             "BINUNICODE8", "BINSTRING", "SHORT_BINSTRING", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8"}
_KEYS = (str, bytes, int, float, bool, type(None))   # a deeply nested tuple would overflow the stack when hashed


@dataclass(frozen=True)
class Constructor:
    """A function that a pickle may call; it is ours, checks its arguments and has no effects."""

    build: Callable[..., Any]


def unpickle(stream: BinaryIO, names: Mapping[str, Any],
             persistent_load: Callable[[Any], Any] | None = None) -> Any:
    """The object that the next pickle of `stream` describes; the stream then stands behind it.

    names              "module name" to what the pickle gets for it: a Constructor, or a value
    persistent_load    turns the ids of things that are kept outside the pickle into those things

    Raises CheckpointError for a pickle that is damaged, names or does something else, or is too long.
    """
    machine = _Machine(names, persistent_load)
    try:
        for count, (operation, argument, _) in enumerate(pickletools.genops(stream)):
            if operation.name == "STOP":
                return machine.stack.pop()
            if count >= _MOST_OPERATIONS:
                raise CheckpointError(f"the pickle has more than {_MOST_OPERATIONS:,} operations; "
                                      "weights need some thirty for each tensor")
            machine.step(operation.name, argument)
    except (ValueError, IndexError, KeyError, TypeError, OverflowError, EOFError) as error:
        if isinstance(error, CheckpointError):
            raise
        raise CheckpointError(f"the pickle is damaged ({shown(error)}); take another copy of the file") from error
    raise CheckpointError("the pickle has no end; take another copy of the file")


class _Machine:
    """The stack of values, those set aside at each mark, and the memo of values to come back to."""

    def __init__(self, names: Mapping[str, Any], persistent_load: Callable[[Any], Any] | None):
        self.names, self.persistent_load = names, persistent_load
        self.stack: list[Any] = []
        self.marks: list[list[Any]] = []
        self.memo: dict[int, Any] = {}               # a dict: an index of 4 billion takes no more room than 0

    def step(self, operation: str, argument: Any) -> None:
        stack = self.stack
        if operation in _LITERALS:
            stack.append(argument)
            return
        match operation:
            case "NONE" | "NEWTRUE" | "NEWFALSE":
                stack.append(_CONSTANTS[operation])
            case "BINPUT" | "LONG_BINPUT":
                self.memo[argument] = stack[-1]
            case "MEMOIZE":
                self.memo[len(self.memo)] = stack[-1]
            case "BINGET" | "LONG_BINGET":
                stack.append(self.memo[argument])
            case "MARK":
                self.marks.append(stack)
                self.stack = []
            case "EMPTY_TUPLE":
                stack.append(())
            case "TUPLE1" | "TUPLE2" | "TUPLE3":
                length = int(operation[-1])
                _need(len(stack) >= length, operation)
                stack[-length:] = [tuple(stack[-length:])]
            case "TUPLE":
                values = self._since_mark()
                self.stack.append(tuple(values))
            case "EMPTY_LIST":
                stack.append([])
            case "APPEND":
                value = stack.pop()
                _need(type(stack[-1]) is list, operation)
                stack[-1].append(value)
            case "APPENDS":
                values = self._since_mark()
                _need(type(self.stack[-1]) is list, operation)
                self.stack[-1].extend(values)
            case "EMPTY_DICT":
                stack.append({})
            case "SETITEM":
                value, key = stack.pop(), stack.pop()
                _need(type(stack[-1]) is dict, operation)
                _set(stack[-1], key, value)
            case "SETITEMS":
                values = self._since_mark()
                _need(type(self.stack[-1]) is dict, operation)
                for key, value in zip(values[::2], values[1::2], strict=True):
                    _set(self.stack[-1], key, value)
            case "GLOBAL":
                stack.append(self._named(*argument.split(" ", 1)))
            case "STACK_GLOBAL":
                name, module = stack.pop(), stack.pop()
                _need(isinstance(name, str) and isinstance(module, str), operation)
                stack.append(self._named(module, name))
            case "REDUCE":
                arguments, function = stack.pop(), stack.pop()
                if not isinstance(function, Constructor) or type(arguments) is not tuple:
                    raise CheckpointError(f"the pickle calls {_kind(function)} with {_kind(arguments)}; "
                                          "it may call only what rebuilds tensors, with a tuple")
                stack.append(function.build(*arguments))
            case "BUILD":                            # attributes: of a state dict, the versions of its modules
                stack.pop()
                _need(type(stack[-1]) is dict, operation)
            case "BINPERSID":
                if self.persistent_load is None:
                    raise CheckpointError("the pickle refers to something outside, where it has to be complete; "
                                          "take another copy of the file")
                stack.append(self.persistent_load(stack.pop()))
            case "PROTO" | "FRAME":
                pass
            case _:
                raise CheckpointError(f"the pickle uses the operation {operation}, which weights do not need; "
                                      "legal: numbers, text, tuples, lists, dicts and tensors")

    def _since_mark(self) -> list[Any]:
        values, self.stack = self.stack, self.marks.pop()
        return values

    def _named(self, module: str, name: str) -> Any:
        if (found := self.names.get(f"{module} {name}")) is None:
            raise CheckpointError(f"the pickle names {shown(module)}.{shown(name)}, which is not built: a file is "
                                  "never executed; legal are dicts of tensors and plain values, as "
                                  "torch.save(net.state_dict(), ...) writes them")
        return found


def _need(condition: bool, operation: str) -> None:
    if not condition:
        raise CheckpointError(f"the pickle is damaged ({operation} finds no value that it can work on); "
                              "take another copy of the file")


def _set(target: dict, key: Any, value: Any) -> None:
    if type(key) not in _KEYS:
        raise CheckpointError(f"the pickle has {_kind(key)} as a key; legal: text and numbers")
    target[key] = value


def _kind(value: Any) -> str:
    return f"a value of type {type(value).__name__}"
