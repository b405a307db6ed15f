"""Sharing a loop of a compiled kernel among threads, without the interpreter.

    @jit
    def scale(team, x, factor):
        share(team, len(x), _scale_row, (x, factor))

    @jit
    def _scale_row(row, member, x, factor):
        ...

A thread that waits for the interpreter sleeps until it is free, and takes 100 µs to wake: longer than many a layer.
Here helpers watch a board in memory, where the thread that leads writes what to call, and take rows one by one.
"""

import os
import platform
from typing import NamedTuple

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils, typing
from numba.core.cpu import FastMathOptions
from numba.core.targetconfig import ConfigStack

from tinyseg.jit import jit
from tinyseg.kernels.cpu.vector import address, compiled, intrinsic, places

__all__ = ["ASKED", "CALLS", "LED", "Team", "increase", "new_board", "reaches", "serve", "share", "share_range"]

# What a board holds, each on a line of the cache of its own.
ASKED, CALLS, MEMBERS, INSIDE, LED, FUNCTION, DATA = range(0, 56, 8)
_LOOKS = 256                                         # looks, of some 20 ns each, before giving way
_WORTH_A_THREAD = 1 << 13                            # elements: less is done before another thread has its share
_TURNS = 4                                           # for each thread


class Team(NamedTuple):
    """The board, and how many may take part: the thread that leads is member 0."""

    board: np.ndarray
    size: int

    def turns(self, elements: int) -> int:
        """Of how many items to make work on so many elements: one, unless it is worth another thread, and then some
        for each, that nobody waits long for the last."""
        return max(1, min(_TURNS * self.size, elements // _WORTH_A_THREAD))


def new_board() -> np.ndarray:
    """int64:
    ASKED             how often there was something new, so far
    CALLS             how often that was no loop of a kernel, but a call for the interpreter
    FUNCTION, DATA    addresses: of what to call, with what
    MEMBERS           how many may take part in it now, 0 once there are no items left
    INSIDE            helpers that take part, or look whether they may
    LED               1 while a thread leads
    """
    return np.zeros(DATA + 1, np.int64)


# ---- what it means -------------------------------------------------------------------------------------------------

def share(team, count, body, arguments):
    """Call body(item, member, *arguments) for all items of range(count), in any order and side by side.

    member    which of the `team.size` threads calls: what belongs to it is its own.  `body` is a compiled kernel that
              raises nothing, and its items do not write the same memory.
    """
    for item in range(count):
        body(item, 0, *arguments)


def share_range(team, count, elements, body, arguments):
    """Call body(first, last, *arguments) for parts of range(count): one, unless there are `elements` enough for more.

    A result does not depend on the parts as long as each of its elements is computed in one turn of the loop.
    """
    body(0, count, *arguments)


def look(board, index):
    """board[index] as other threads see it, after a breath."""
    return board[index]


def increase(board, index, number):
    """Add a number as other threads will see it; returns what was there before."""
    board[index] += number
    return board[index] - number


def _exchange(board, index, number):
    """Write a number as other threads will see it; returns what was there before."""
    before = board[index]
    board[index] = number
    return before


def _give_way():
    """Let a thread run that waits for this core."""


def _call(function, data, member):
    raise NotImplementedError("addresses mean something to compiled code only")


# ---- the protocol --------------------------------------------------------------------------------------------------

@jit
def _parts(size, count, elements):
    return max(1, min(size, count, elements // _WORTH_A_THREAD))


@jit
def _lead(board, size, count, function, data):
    """Call function(data, 0), and have helpers call it with numbers of their own, unless there is but one item.

    Returns when all `count` items are done.
    """
    if size < 2 or _exchange(board, LED, 1):         # another thread leads: this one works alone
        _call(function, data, 0)
        return
    members = min(size, count)
    if members > 1:
        board[FUNCTION], board[DATA] = function, data
        _exchange(board, MEMBERS, members)
        increase(board, ASKED, 1)
    _call(function, data, 0)
    if members > 1:
        _exchange(board, MEMBERS, 0)                 # who looks from now on, leaves again
        while not reaches(board, INSIDE, 0, 1):
            pass
    _exchange(board, LED, 0)


@jit
def serve(board, member, calls, turns):
    """Take part in loops, until CALLS is no longer `calls`, or nobody leads for so many turns.  Which of the two?

    While one leads, a kernel runs, in which other loops may follow that one.
    """
    seen = idle = 0
    while idle < turns:
        for _ in range(_LOOKS):
            asked = look(board, ASKED)
            if asked != seen:
                seen = asked
                increase(board, INSIDE, 1)           # before the look at MEMBERS: either is 0, or the leader waits
                if member < look(board, MEMBERS):
                    idle = 0
                    _call(board[FUNCTION], board[DATA], member)
                increase(board, INSIDE, -1)
                if look(board, CALLS) != calls:
                    return True
        _give_way()
        idle = 0 if look(board, LED) else idle + 1
    return False


@jit
def reaches(counter, index, number, turns):
    """Whether counter[index], which other threads change, comes to `number` while this one looks again and again."""
    for _ in range(turns):
        for _ in range(_LOOKS):
            if look(counter, index) == number:
                return True
        _give_way()
    return False


# ---- what the compiler makes of it ---------------------------------------------------------------------------------

_I64 = ir.IntType(64)


def _is_board(board, index):
    return places(board, index, types.int64)


@compiled(look, lambda board, index: types.int64 if _is_board(board, index) else None)
def _compiled_look(context, builder, signature, arguments):
    if platform.machine() in ("x86_64", "AMD64"):
        intrinsic(builder, "llvm.x86.sse2.pause", ir.VoidType())
    return builder.load_atomic(_place(context, builder, signature, arguments), "seq_cst", 8)


@compiled(increase, lambda board, index, number: types.int64 if _is_board(board, index) else None)
def _compiled_increase(context, builder, signature, arguments):
    return _modify(context, builder, signature, arguments, "add")


@compiled(_exchange, lambda board, index, number: types.int64 if _is_board(board, index) else None)
def _compiled_exchange(context, builder, signature, arguments):
    return _modify(context, builder, signature, arguments, "xchg")


def _modify(context, builder, signature, arguments, how):
    number = context.cast(builder, arguments[2], signature.args[2], types.int64)
    return builder.atomic_rmw(how, _place(context, builder, signature, arguments), number, "seq_cst")


def _place(context, builder, signature, arguments):
    (array_type, index_type, *_), (array, index, *_) = signature.args, arguments
    return address(context, builder, array_type, array, index_type, index)


@compiled(_give_way, lambda: types.void)
def _compiled_give_way(context, builder, signature, arguments):
    if hasattr(os, "sched_yield"):
        intrinsic(builder, "sched_yield", ir.IntType(32))
    return context.get_dummy_value()


_TURN = ir.FunctionType(ir.VoidType(), [_I64, _I64])                 # data, member


@compiled(_call, lambda function, data, member: types.void)
def _compiled_call(context, builder, signature, arguments):
    function, data, member = (context.cast(builder, value, kind, types.int64)
                              for value, kind in zip(arguments, signature.args, strict=True))
    builder.call(builder.inttoptr(function, _TURN.as_pointer()), [data, member])
    return context.get_dummy_value()


@compiled(share, lambda team, count, body, arguments: types.void if isinstance(body, types.Dispatcher) else None)
def _compiled_share(context, builder, signature, arguments):
    (team_type, count_type, body_type, _), (team, count, _, _) = signature.args, arguments

    def work(inside, item, member, kinds, values):
        _call_kernel(context, inside, body_type.dispatcher, [types.int64, types.int64, *kinds], [item, member, *values])
    count = context.cast(builder, count, count_type, types.int64)
    _share(context, builder, team_type, team, count, signature.args[3], arguments[3], work)
    return context.get_dummy_value()


@compiled(share_range, lambda team, count, elements, body, arguments:
          types.void if isinstance(body, types.Dispatcher) else None)
def _compiled_share_range(context, builder, signature, arguments):
    (team_type, _, _, body_type, _), (team, count, elements, _, _) = signature.args, arguments
    count, elements = (context.cast(builder, value, kind, types.int64)
                       for value, kind in zip((count, elements), signature.args[1:3], strict=True))
    size = context.cast(builder, cgutils.unpack_tuple(builder, team)[1], team_type[1], types.int64)
    parts = _call_kernel(context, builder, _parts, [types.int64] * 3, [size, count, elements], types.int64)

    def work(inside, item, member, kinds, values):
        *values, count, parts = values
        first, last = (inside.sdiv(inside.mul(count, n), parts) for n in (item, inside.add(item, _I64(1))))
        _call_kernel(context, inside, body_type.dispatcher, [types.int64, types.int64, *kinds[:-2]],
                     [first, last, *values])
    kinds = types.Tuple([*signature.args[4], types.int64, types.int64])
    values = context.make_tuple(builder, kinds, [*cgutils.unpack_tuple(builder, arguments[4]), count, parts])
    _share(context, builder, team_type, team, parts, kinds, values, work)
    return context.get_dummy_value()


def _share(context, builder, team_type, team, count, kinds, values, work):
    """The values to memory, a function that takes items and has work(builder, item, member, kinds, values) done for
    each, and its address to the board."""
    unpacked, given = cgutils.unpack_tuple(builder, values), tuple(kinds)
    kinds = [types.unliteral(kind) for kind in given]
    values = [context.cast(builder, *each) for each in zip(unpacked, given, kinds, strict=True)]
    held = [_I64(0), count, *values]                 # the next item, how many there are, and what they share
    data = cgutils.alloca_once(builder, ir.LiteralStructType([value.type for value in held]))
    for k, value in enumerate(held):
        builder.store(value, cgutils.gep_inbounds(builder, data, 0, k))

    turn = ir.Function(builder.module, _TURN, builder.module.get_unique_name(f"{builder.function.name}.turn"))
    turn.linkage = "internal"
    inside = ir.IRBuilder(turn.append_basic_block())
    there = inside.inttoptr(turn.args[0], data.type)
    _, last, *values = (inside.load(cgutils.gep_inbounds(inside, there, 0, k)) for k in range(len(held)))
    again, go, done = (turn.append_basic_block(name) for name in ("again", "go", "done"))
    inside.branch(again)
    inside.position_at_end(again)
    item = inside.atomic_rmw("add", cgutils.gep_inbounds(inside, there, 0, 0), _I64(1), "seq_cst")
    inside.cbranch(inside.icmp_signed("<", item, last), go, done)
    inside.position_at_end(go)
    work(inside, item, turn.args[1], kinds, values)
    inside.branch(again)
    inside.position_at_end(done)
    inside.ret_void()

    board, size = cgutils.unpack_tuple(builder, team)
    size = context.cast(builder, size, team_type[1], types.int64)
    _call_kernel(context, builder, _lead, [team_type[0], *[types.int64] * 4],
                 [board, size, count, builder.ptrtoint(turn, _I64), builder.ptrtoint(data, _I64)])


def _call_kernel(context, builder, kernel, kinds, values, result=types.none):
    """Call what `@jit` made, which raises nothing.  It becomes part of this kernel and is not compiled by itself."""
    flags = ConfigStack().top().copy()
    flags.fastmath = FastMathOptions(kernel.targetoptions.get("fastmath", False))
    signature = typing.signature(result, *kinds)
    made = context.compile_subroutine(builder, kernel.py_func, signature, flags=flags)
    return context.call_internal_no_propagate(builder, made.fndesc, signature, values)[1]
