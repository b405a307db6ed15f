"""The matrix unit of a CPU (Intel AMX): eight registers, each a tile of 16 rows of 16 words.

    tile_dot(c, a, b):   c[i, j] += Σ_k  a[i, k] · b[k, j]      k over 16 words, each a pair of bf16: 32 products

c holds float32 numbers; a and b hold words, as `vector.pair` makes them.  A float32 number is nearly the sum of two
bf16 numbers, hi + lo, so three such products, hi·hi + hi·lo + lo·hi, come within 1e-5 of the float32 product.

As in `vector`, the Python functions are the meaning, and run with NUMBA_DISABLE_JIT=1; Numba compiles them to single
instructions.  Tile numbers are constants, pitches count float32 elements, and every row should begin on a multiple of
64 bytes (`aligned`): others are several times slower.
"""

import ctypes
import platform
import sys
import threading
from functools import cache

import numpy as np
from llvmlite import ir
from numba import types

from tinyseg.kernels.cpu.vector import FEATURES, address, compiled, intrinsic, places

__all__ = ["aligned", "available", "begin_tiles", "end_tiles", "tile_dot", "tile_load", "tile_store", "tile_zero"]

_ARCH_PRCTL, _REQUEST_PERMISSION, _TILE_DATA = 158, 0x1023, 18       # Linux: ARCH_REQ_XCOMP_PERM, XTILEDATA


@cache
def available() -> bool:
    """Is there a matrix unit that this process may use?  Asks Linux for it the first time; all threads get it."""
    if {"amx-tile", "amx-bf16"} - FEATURES or sys.platform != "linux" or platform.machine() != "x86_64":
        return False
    return ctypes.CDLL(None).syscall(_ARCH_PRCTL, _REQUEST_PERMISSION, _TILE_DATA) == 0


def aligned(shape, fill=None):
    """A float32 array that begins on a multiple of 64 bytes; not initialised unless `fill` says with what."""
    size = int(np.prod(shape))
    memory = np.empty(size + 16, np.float32)
    start = -memory.ctypes.data % 64 // 4
    array = memory[start:start + size].reshape(shape)
    if fill is not None:
        array.fill(fill)
    return array


# ---- what the words mean -------------------------------------------------------------------------------------------

_thread = threading.local()


def _tiles():
    if not hasattr(_thread, "tiles"):
        _thread.tiles = np.zeros((8, 16, 16), np.float32)
    return _thread.tiles


def begin_tiles():
    """Shape this thread's registers, before any other call; `end_tiles` must follow."""


def end_tiles():
    """Give the registers back: until then, switching threads costs more."""


def tile_zero(tile):
    _tiles()[tile] = 0


def tile_load(tile, array, index, pitch):
    """Row i of the tile is the 16 elements that begin i·pitch elements after array[index]."""
    _tiles()[tile] = _rows(array, index, pitch)


def tile_store(tile, array, index, pitch):
    _rows(array, index, pitch)[...] = _tiles()[tile]


def tile_dot(c, a, b):
    """c += a · b, where a word of a and a word of b give the sum of two products."""
    tiles = _tiles()
    for half in (lambda words: words << 16, lambda words: words & np.uint32(0xFFFF0000)):
        left, right = (half(tiles[t].view(np.uint32)).view(np.float32) for t in (a, b))
        with np.errstate(all="ignore"):              # the unit signals nothing
            tiles[c] += left @ right


def _rows(array, index, pitch):
    assert array.flags.c_contiguous
    start = index if isinstance(index, (int, np.integer)) else np.ravel_multi_index(index, array.shape)
    assert start + 15 * pitch + 16 <= array.size, "a tile leaves its array"
    return np.lib.stride_tricks.as_strided(array.reshape(-1)[start:], (16, 16), (4 * pitch, 4))


# ---- what the compiler makes of them -------------------------------------------------------------------------------

_VOID, _BYTE, _LONG = ir.VoidType(), ir.IntType(8), ir.IntType(64)
# Palette 1; for each of the eight tiles 64 bytes a row (16-bit numbers from byte 16) and 16 rows (bytes from byte 48).
_SHAPES = bytes([1, *[0] * 15, *[64, 0] * 8, *[0] * 16, *[16] * 8, *[0] * 8])


def _numbered(*tiles):
    return all(isinstance(t, types.IntegerLiteral) and 0 <= t.literal_value < 8 for t in tiles)


def _number(kind):
    return ir.Constant(_BYTE, kind.literal_value)


def _instruction(context, builder, name, *operands):
    intrinsic(builder, f"llvm.x86.{name}", _VOID, *operands)
    return context.get_dummy_value()


@compiled(begin_tiles, lambda: types.void)
def _begin_tiles(context, builder, signature, arguments):
    shapes = context.insert_const_bytes(builder.module, _SHAPES)
    return _instruction(context, builder, "ldtilecfg", shapes)


@compiled(end_tiles, lambda: types.void)
def _end_tiles(context, builder, signature, arguments):
    return _instruction(context, builder, "tilerelease")


@compiled(tile_zero, lambda tile: types.void if _numbered(tile) else None)
def _tile_zero(context, builder, signature, arguments):
    return _instruction(context, builder, "tilezero", _number(signature.args[0]))


@compiled(tile_dot, lambda c, a, b: types.void if _numbered(c, a, b) else None)
def _tile_dot(context, builder, signature, arguments):
    return _instruction(context, builder, "tdpbf16ps", *map(_number, signature.args))


for _function, _name in ((tile_load, "tileloadd64"), (tile_store, "tilestored64")):
    @compiled(_function, lambda tile, array, index, pitch:
              types.void if _numbered(tile) and places(array, index) else None)
    def _move(context, builder, signature, arguments, name=_name):
        (tile, array_type, index_type, pitch_type), (_, array, index, pitch) = signature.args, arguments
        pointer = address(context, builder, array_type, array, index_type, index)
        pitch = context.cast(builder, pitch, pitch_type, types.int64)
        return _instruction(context, builder, name, _number(tile), builder.bitcast(pointer, _BYTE.as_pointer()),
                            builder.shl(pitch, _LONG(2)))
