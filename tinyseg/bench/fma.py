"""The loops that measure a machine: multiply-adds in registers, the matrix unit's too, and the triad in memory."""

import numpy as np
from llvmlite import binding, ir
from numba import float32, int64
from numba.core import config
from numba.extending import intrinsic

from tinyseg.jit import jit
from tinyseg.kernels.cpu.amx import begin_tiles, end_tiles, tile_dot, tile_load, tile_zero

__all__ = ["CHAINS", "LANES", "TILE_OPERATIONS", "multiply_add", "multiply_tiles", "triad"]

TILE_OPERATIONS = 4 * 2 * 16 * 16 * 32               # of one turn of `multiply_tiles`


def _vectors() -> tuple[int, int]:
    """(lanes, chains): the widest vectors of the host, and chains enough to hide four cycles on two or more ports."""
    features = binding.get_host_cpu_features()
    if features.get("avx512f"):
        return 16, 24
    if features.get("fma"):
        return 8, 12
    return 4, 24 if features.get("neon") else 12


LANES, CHAINS = _vectors()                           # Numba keeps a cache for each kind of processor


@intrinsic
def _chains(context, steps):
    """CHAINS independent sums, each s = 0.999·s + 0.001 on LANES floats at once, `steps` times; one number of them.

    Written in LLVM's words: its loop vectoriser stops at half-width vectors, and needs more than one chain to be fast.
    """
    vector, index = ir.VectorType(ir.FloatType(), LANES), ir.IntType(64)

    def generate(context, builder, signature, arguments):
        name = f"llvm.fma.v{LANES}f32"
        fma = builder.module.globals.get(name) or ir.Function(
            builder.module, ir.FunctionType(vector, [vector] * 3), name)
        scale, shift = (ir.Constant(vector, [value] * LANES) for value in (0.999, 0.001))
        before, loop, end = builder.block, builder.append_basic_block("loop"), builder.append_basic_block("end")
        builder.branch(loop)
        builder.position_at_end(loop)
        count = builder.phi(index)
        sums = [builder.phi(vector) for _ in range(CHAINS)]
        new = [builder.call(fma, [s, scale, shift]) for s in sums]
        following = builder.add(count, ir.Constant(index, 1))
        starts = [ir.Constant(index, 0), *(ir.Constant(vector, [k + 1.0] * LANES) for k in range(CHAINS))]
        for start, old, fresh in zip(starts, [count, *sums], [following, *new], strict=True):
            old.add_incoming(start, before)
            old.add_incoming(fresh, loop)
        builder.cbranch(builder.icmp_signed("<", following, arguments[0]), loop, end)
        builder.position_at_end(end)
        total = new[0]
        for fresh in new[1:]:
            total = builder.fadd(total, fresh)
        return builder.extract_element(total, ir.Constant(ir.IntType(32), 0))

    return float32(int64), generate


@jit
def multiply_add(steps):
    """`steps` turns of CHAINS vector multiply-adds: 2·LANES·CHAINS·steps operations."""
    return _chains(int64(steps))


@jit
def multiply_tiles(steps, words):
    """`steps` turns of four products of tiles, which stay in registers; words: 512 elements to multiply."""
    begin_tiles()
    tile_load(6, words, 0, 16)
    tile_load(7, words, 256, 16)
    tile_zero(0)
    tile_zero(1)
    tile_zero(2)
    tile_zero(3)
    for _ in range(steps):
        tile_dot(0, 6, 7)
        tile_dot(1, 6, 7)
        tile_dot(2, 6, 7)
        tile_dot(3, 6, 7)
    end_tiles()


@jit
def _triad(a, b, c):
    for i in range(len(a)):
        a[i] = b[i] + np.float32(3) * c[i]


def _triad_in_numpy(a, b, c):
    np.add(b, c, out=a)                              # as many bytes; the product is free


triad = _triad_in_numpy if config.DISABLE_JIT else _triad
