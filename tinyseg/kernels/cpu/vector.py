"""Vectors of a CPU's own width, for kernels that read like mathematics.

    v = load(x, (c, y, 0))                  # LANES neighbours in the last axis of a C-contiguous float32 array
    store(out, (c, y, 0), 4 * v - 5 * w)

Every function here is plain Python on NumPy arrays of LANES numbers: that is its meaning, and what runs with
NUMBA_DISABLE_JIT=1.  Numba compiles the same call to the processor's vector instructions; nothing checks there that an
index lies inside its array.

A tile is rows·columns vectors that stay in registers while `outer_add` adds outer products to them: the inner loop of
every matrix product.

A word is 32 bits that hold two bf16 numbers, the upper halves of float32 numbers.  Vectors of words are vectors of
float32 to everything that only moves them.
"""

import operator
from collections.abc import Callable
from math import prod
from typing import Any

import numpy as np
from llvmlite import binding, ir
from numba import types
from numba.core import cgutils, config
from numba.extending import lower_builtin, models, register_model, type_callable

__all__ = ["COLUMNS", "FEATURES", "LANES", "ROWS", "Vector", "add_tile", "bf16", "compiled", "deinterleave", "evens",
           "fma", "fma_rows", "gather", "interleave", "load", "load_part", "load_rows",
           "load_rows_part", "magnitude", "maximum", "minimum", "odds", "outer_add", "outer_add_down", "pair",
           "peak", "prefetch", "scatter", "splat", "store", "store_part", "store_rows", "store_tile",
           "straddle", "total", "transpose", "transpose_square", "words", "zero_tile", "zip_first",
           "zip_last"]


def _features() -> frozenset[str]:
    """The processor's, or those that NUMBA_CPU_FEATURES allows: code is generated for these and no others."""
    if config.CPU_FEATURES is not None:
        return frozenset(word[1:] for word in config.CPU_FEATURES.split(",") if word.startswith("+"))
    return frozenset(name for name, has in binding.get_host_cpu_features().items() if has)


def _shape() -> tuple[int, int, int]:
    """(lanes, rows, columns): the widest vectors, and the tile that fills most registers of the 16 or 32."""
    if "avx512f" in FEATURES:
        return 16, 8, 3
    if "avx2" in FEATURES and "fma" in FEATURES:
        return 8, 6, 2
    return 4, 6, 2 if "neon" not in FEATURES else 4


FEATURES = _features()
LANES, ROWS, COLUMNS = _shape()                      # Numba keeps a cache for each set of features

_F32, _I32, _I64, _BIT = ir.FloatType(), ir.IntType(32), ir.IntType(64), ir.IntType(1)
_FLAGS = ("contract", "nsz")                         # a·b + c may become one instruction


# ---- what the words mean -------------------------------------------------------------------------------------------

def splat(number):
    """The same number in every lane."""
    return np.full(LANES, number, np.float32)


def load(array, index):
    """LANES consecutive numbers of a C-contiguous float32 array, the first at `index`: an int or a tuple of ints."""
    return load_part(array, index, LANES)


def load_part(array, index, count):
    """The first `count` lanes from the array, zero in the others; nothing is read for those."""
    count = max(0, min(LANES, count))
    return np.concatenate([_from(array, index, count), np.zeros(LANES - count, np.float32)])


def store(array, index, vector):
    """Write the lanes to consecutive elements, the first at `index`."""
    store_part(array, index, vector, LANES)


def store_part(array, index, vector, count):
    """Write the first `count` lanes; the other elements keep what they hold."""
    count = max(0, min(LANES, count))
    _from(array, index, count)[...] = vector[:count]


def load_rows(array, index, step, n):
    """A tuple of n vectors, each begins `step` elements after the one before; the first is load(array, index)."""
    return load_rows_part(array, index, step, n, 0, n, LANES)


def load_rows_part(array, index, step, n, first, last, count):
    """The same, but nothing is read except the first `count` lanes of vectors `first` .. `last` - 1; zero elsewhere.

    So an index may lie outside the array where only those vectors are inside.
    """
    flat, start = array.reshape(-1), _position(array, index)
    return tuple(load_part(flat, start + k * step, count) if first <= k < last else splat(0) for k in range(n))


def store_rows(array, index, step, vectors):
    """Write each vector `step` elements after the one before, the first at `index`."""
    flat, start = array.reshape(-1), _position(array, index)
    for k, vector in enumerate(vectors):
        store(flat, start + k * step, vector)


def gather(array, index, step, count=LANES):
    """Lane i is the element i·step after `index`, counted in elements of the C-contiguous array, for the first `count`
    lanes; zero in the others."""
    count = max(0, min(LANES, count))
    return np.concatenate([_from(array, index, count, step), np.zeros(LANES - count, np.float32)])


def scatter(array, index, step, vector, count):
    """Write lane i to the element i·step after `index`, for the first `count` lanes."""
    count = max(0, min(LANES, count))
    _from(array, index, count, step)[...] = vector[:count]


def fma(a, b, c):
    """a·b + c."""
    return (a * b + c).astype(np.float32)


def fma_rows(a, rows, sums):
    """The tuple of a·row + sum."""
    return tuple(fma(a, row, total) for row, total in zip(rows, sums, strict=True))


def maximum(a, b):
    """The larger, lane by lane; a NaN in `a` or `b` may be lost."""
    return np.where(a > b, a, b)


def minimum(a, b):
    """The smaller, lane by lane; a NaN in `a` or `b` may be lost."""
    return np.where(a < b, a, b)


def magnitude(a, b):
    """max(a, |b|), lane by lane, for a >= 0; NaN is larger than infinity, and so is never lost."""
    return np.maximum(a.view(np.int32), b.view(np.int32) & 0x7FFFFFFF).view(np.float32)


def bf16(vector):
    """Each number rounded to the nearest that bf16 has, ties to even; what is left out is vector - bf16(vector)."""
    bits = vector.view(np.uint32)
    return (bits + (0x7FFF + (bits >> 16 & 1)) & np.uint32(0xFFFF0000)).view(np.float32)


def pair(a, b):
    """A vector of words: bf16 of a in the lower half of each lane, bf16 of b in the upper."""
    return (bf16(a).view(np.uint32) >> 16 | bf16(b).view(np.uint32)).view(np.float32)


def words(a, b):
    """Two vectors of consecutive numbers as one of words, each bf16 of two neighbours, the first in the lower half.

    Denormals may become zero, as the matrix unit takes them.
    """
    return pair(*deinterleave((a, b)))


def evens(words):
    """The first number of each word."""
    return (words.view(np.uint32) << 16).view(np.float32)


def odds(words):
    """The second number of each word."""
    return (words.view(np.uint32) & np.uint32(0xFFFF0000)).view(np.float32)


def straddle(a, b):
    """The words between two vectors of words: the upper halves of a below the lower halves of b."""
    return (a.view(np.uint32) >> 16 | b.view(np.uint32) << 16).view(np.float32)


def zip_first(a, b):
    """The first half of the numbers in two vectors of words, alternating."""
    return _zipped(a, b, slice(LANES))


def zip_last(a, b):
    """The last half of the numbers in two vectors of words, alternating."""
    return _zipped(a, b, slice(LANES, None))


def _zipped(a, b, half):
    return np.stack([v.view(np.uint16)[half] for v in (a, b)], 1).reshape(-1).view(np.float32)


def prefetch(array, index):
    """Have the line around array[index] brought to the first-level cache; it may lie outside the array."""


def total(vector):
    """The sum over the lanes."""
    return np.float32(vector.sum())


def peak(vector):
    """The largest lane, where none is negative; NaN is larger than all."""
    return vector.view(np.int32).max().view(np.float32)


def deinterleave(vectors):
    """A tuple of n vectors of consecutive numbers -> n vectors: the k-th holds numbers k, k + n, k + 2n, ..."""
    return tuple(np.concatenate(vectors).reshape(LANES, len(vectors)).T.copy())


def interleave(vectors):
    """The inverse of `deinterleave`: lane 0 of each vector, then lane 1 of each, ..."""
    return tuple(np.stack(vectors, 1).reshape(len(vectors), LANES))


def transpose(rows):
    """A tuple of LANES vectors, the rows of a square, to its columns."""
    return tuple(np.stack(rows).T.copy())


def transpose_square(source, index, pitch, target, place, step):
    """Write LANES rows, which begin at source[index] and every `pitch` elements after, as columns: row k of the result
    goes to the elements k·step after target[place]."""
    store_rows(target, place, step, transpose(load_rows(source, index, pitch, LANES)))


def zero_tile(rows, columns):
    """A tile of zeros: rows × columns vectors.  Both are constants where the kernel is compiled."""
    return np.zeros((rows, columns, LANES), np.float32)


def outer_add(tile, a, a_index, b, b_index):
    """tile[i, j] + a[i]·b[j]: `rows` consecutive numbers of a, `columns` consecutive vectors of b."""
    rows, columns, _ = tile.shape
    column = _from(a, a_index, rows)
    row = _from(b, b_index, columns * LANES).reshape(columns, LANES)
    return tile + column[:, None, None] * row


def outer_add_down(tile, a, a_index, b, b_index):
    """The same with a column of a: the numbers lie below each other."""
    rows, columns, _ = tile.shape
    pitch = a.strides[-2] // a.itemsize
    column = _from(a, a_index, rows, pitch)
    row = _from(b, b_index, columns * LANES).reshape(columns, LANES)
    return tile + column[:, None, None] * row


def store_tile(tile, array, index):
    """Write row i of the tile to consecutive elements, i rows of the array below `index`."""
    _rows_of(tile, array, index)[...] = tile.reshape(len(tile), -1)


def add_tile(tile, array, index):
    """The tile plus what `store_tile` would overwrite."""
    return tile + _rows_of(tile, array, index).reshape(tile.shape)


def _from(array, index, count, step=1):
    """`count` elements of a C-contiguous array, `step` apart, the first at `index`; a view."""
    if not count:
        return np.empty(0, np.float32)               # nothing is touched, wherever the index lies
    start = _position(array, index)
    stop = start + (count - 1) * step + 1
    assert 0 <= start < stop <= array.size, "a load or store leaves its array"
    return array.reshape(-1)[start:stop:step]


def _position(array, index):
    """The number of the element at `index` in a C-contiguous array, which may be none of its elements."""
    assert array.flags.c_contiguous
    place = 0
    for axis, i in enumerate(index if isinstance(index, tuple) else (index,)):
        place += i * prod(array.shape[axis + 1:])    # strides tell nothing where the length is 1
    return place


def _rows_of(tile, array, index):
    """What a tile covers; a view."""
    rows, columns, _ = tile.shape
    pitch = array.strides[-2] // array.itemsize
    whole = _from(array, index, (rows - 1) * pitch + columns * LANES)
    return np.lib.stride_tricks.as_strided(whole, (rows, columns * LANES), array.strides[-2:])


# ---- what the compiler makes of them -------------------------------------------------------------------------------

class Vector(types.Type):
    """`lanes` numbers of one kind in a register."""

    def __init__(self, element: ir.Type, lanes: int):
        self.ir = ir.VectorType(element, lanes)
        super().__init__(f"vector({self.ir})")


class _Tile(types.Type):
    def __init__(self, rows: int, columns: int):
        self.rows, self.columns = rows, columns
        super().__init__(f"tile({rows}x{columns}x{LANES})")


@register_model(Vector)
class _VectorModel(models.PrimitiveModel):
    def __init__(self, manager, kind):
        super().__init__(manager, kind, kind.ir)


@register_model(_Tile)
class _TileModel(models.PrimitiveModel):
    def __init__(self, manager, kind):
        super().__init__(manager, kind, ir.ArrayType(FLOATS.ir, kind.rows * kind.columns))


FLOATS = Vector(_F32, LANES)
Emit = Callable[[Any, ir.IRBuilder, Any, Any], Any]


def compiled(function: Callable[..., Any], result: Callable[..., types.Type | None]) -> Callable[[Emit], Emit]:
    """What follows is the code for `function` where Numba compiles a call of it.

    result    from the argument types to the type of the result, or None for arguments that it does not take
    """
    def decorate(emit: Emit) -> Emit:
        type_callable(function)(lambda context: result)
        lower_builtin(function, types.VarArg(types.Any))(emit)
        return emit
    return decorate


def intrinsic(builder: ir.IRBuilder, name: str, result: ir.Type, *operands: ir.Value) -> ir.Value:
    """Call an instruction that LLVM has under this name."""
    kind = ir.FunctionType(result, [value.type for value in operands])
    return builder.call(cgutils.get_or_insert_function(builder.module, kind, name), operands)


def address(context, builder, array_type, array, index_type, index) -> ir.Value:
    """Pointer to array[index].  The index may be shorter than the array has axes: the others are 0."""
    indices = ([context.cast(builder, v, t, types.intp) for v, t in
                zip(cgutils.unpack_tuple(builder, index), index_type, strict=True)]
               if isinstance(index_type, types.BaseTuple) else [context.cast(builder, index, index_type, types.intp)])
    indices += [_I64(0)] * (array_type.ndim - len(indices))
    view = context.make_array(array_type)(context, builder, array)
    return cgutils.get_item_pointer(context, builder, array_type, view, indices, wraparound=False)


def places(array: types.Type, index: types.Type, dtype: types.Type = types.float32) -> bool:
    """Does (array, index) name a place in a C-contiguous array of `dtype`?"""
    fits = isinstance(index, types.Integer) or (isinstance(index, types.BaseTuple) and
                                                all(isinstance(t, types.Integer) for t in index))
    return isinstance(array, types.Array) and array.layout == "C" and array.dtype == dtype and fits


def shuffle(builder, a, b, lanes):
    """Lanes of a and b, numbered through both."""
    return builder.shuffle_vector(a, b, ir.Constant(ir.VectorType(_I32, len(lanes)), list(lanes)))


def spread(builder, element, lanes=LANES):
    """The same element in every lane."""
    kind = ir.VectorType(element.type, lanes)
    one = builder.insert_element(ir.Constant(kind, ir.Undefined), element, _I32(0))
    return shuffle(builder, one, one, [0] * lanes)


def first(builder, count):
    """A mask of the first `count` lanes."""
    limit = builder.trunc(count, _I32)
    numbers = ir.Constant(ir.VectorType(_I32, LANES), list(range(LANES)))
    return builder.icmp_signed("<", numbers, spread(builder, limit))


def _read(builder, pointer, kind=FLOATS):
    value = builder.load(builder.bitcast(pointer, kind.ir.as_pointer()))
    value.align = 4
    return value


def _read_part(builder, pointer, count):
    return intrinsic(builder, f"llvm.masked.load.v{LANES}f32.p0", FLOATS.ir,
                     builder.bitcast(pointer, FLOATS.ir.as_pointer()), _I32(4), first(builder, count),
                     ir.Constant(FLOATS.ir, [0.0] * LANES))


def _write(builder, value, pointer):
    builder.store(value, builder.bitcast(pointer, value.type.as_pointer())).align = 4


def _integer(context, builder, value, kind):
    return context.cast(builder, value, kind, types.intp)


def _ahead(builder, pointer, elements):
    return builder.gep(pointer, [elements if isinstance(elements, ir.Value) else _I64(elements)])


@compiled(splat, lambda number: FLOATS if isinstance(number, types.Number) else None)
def _splat(context, builder, signature, arguments):
    return spread(builder, context.cast(builder, arguments[0], signature.args[0], types.float32))


@compiled(load, lambda array, index: FLOATS if places(array, index) else None)
def _load(context, builder, signature, arguments):
    (array_type, index_type), (array, index) = signature.args, arguments
    return _read(builder, address(context, builder, array_type, array, index_type, index))


@compiled(store, lambda array, index, vector: types.void if places(array, index) and vector == FLOATS else None)
def _store(context, builder, signature, arguments):
    (array_type, index_type, _), (array, index, vector) = signature.args, arguments
    _write(builder, vector, address(context, builder, array_type, array, index_type, index))
    return context.get_dummy_value()


@compiled(load_part, lambda array, index, count: FLOATS if places(array, index) else None)
def _load_part(context, builder, signature, arguments):
    (array_type, index_type, count_type), (array, index, count) = signature.args, arguments
    pointer = address(context, builder, array_type, array, index_type, index)
    return _read_part(builder, pointer, _integer(context, builder, count, count_type))


@compiled(store_part, lambda array, index, vector, count:
          types.void if places(array, index) and vector == FLOATS else None)
def _store_part(context, builder, signature, arguments):
    (array_type, index_type, _, count_type), (array, index, vector, count) = signature.args, arguments
    pointer = address(context, builder, array_type, array, index_type, index)
    mask = first(builder, _integer(context, builder, count, count_type))
    intrinsic(builder, f"llvm.masked.store.v{LANES}f32.p0", ir.VoidType(), vector,
              builder.bitcast(pointer, FLOATS.ir.as_pointer()), _I32(4), mask)
    return context.get_dummy_value()


def _row_places(context, builder, signature, arguments, n):
    """Pointers to n places, `step` elements apart."""
    (array_type, index_type, step_type, *_), (array, index, step, *_) = signature.args, arguments
    start = address(context, builder, array_type, array, index_type, index)
    step = _integer(context, builder, step, step_type)
    return [_ahead(builder, start, builder.mul(step, _I64(k))) for k in range(n)]


def _many(n):
    return types.UniTuple(FLOATS, n.literal_value) if isinstance(n, types.IntegerLiteral) else None


@compiled(load_rows, lambda array, index, step, n: _many(n) if places(array, index) else None)
def _load_rows(context, builder, signature, arguments):
    pointers = _row_places(context, builder, signature, arguments, len(signature.return_type))
    return context.make_tuple(builder, signature.return_type, [_read(builder, pointer) for pointer in pointers])


@compiled(load_rows_part, lambda array, index, step, n, first, last, count:
          _many(n) if places(array, index) else None)
def _load_rows_part(context, builder, signature, arguments):
    begin, end, count = (_integer(context, builder, value, kind)
                         for value, kind in zip(arguments[4:], signature.args[4:], strict=True))
    vectors = []
    for k, pointer in enumerate(_row_places(context, builder, signature, arguments, len(signature.return_type))):
        inside = builder.and_(builder.icmp_signed("<=", begin, _I64(k)), builder.icmp_signed("<", _I64(k), end))
        vectors.append(_read_part(builder, pointer, builder.select(inside, count, _I64(0))))
    return context.make_tuple(builder, signature.return_type, vectors)


@compiled(store_rows, lambda array, index, step, vectors:
          types.void if places(array, index) and _as_many(vectors) else None)
def _store_rows(context, builder, signature, arguments):
    vectors = cgutils.unpack_tuple(builder, arguments[3])
    pointers = _row_places(context, builder, signature, arguments, len(vectors))
    for pointer, vector in zip(pointers, vectors, strict=True):
        _write(builder, vector, pointer)
    return context.get_dummy_value()


def _strided(context, builder, signature, arguments):
    """Pointers to every step-th element from array[index]."""
    (array_type, index_type, step_type, *_), (array, index, step, *_) = signature.args, arguments
    pointer = address(context, builder, array_type, array, index_type, index)
    steps = builder.mul(spread(builder, _integer(context, builder, step, step_type)),
                        ir.Constant(ir.VectorType(_I64, LANES), list(range(LANES))))
    number = builder.ptrtoint(pointer, _I64)
    bytes_ = builder.add(spread(builder, number), builder.shl(steps, ir.Constant(steps.type, [2] * LANES)))
    return builder.inttoptr(bytes_, ir.VectorType(_F32.as_pointer(), LANES))


@compiled(gather, lambda array, index, step, count=None: FLOATS if places(array, index) else None)
def _gather(context, builder, signature, arguments):
    pointers = _strided(context, builder, signature, arguments)
    mask = (first(builder, _integer(context, builder, arguments[3], signature.args[3])) if len(arguments) > 3
            else ir.Constant(ir.VectorType(_BIT, LANES), [1] * LANES))
    return intrinsic(builder, f"llvm.masked.gather.v{LANES}f32.v{LANES}p0", FLOATS.ir, pointers, _I32(4), mask,
                     ir.Constant(FLOATS.ir, [0.0] * LANES))


@compiled(scatter, lambda array, index, step, vector, count:
          types.void if places(array, index) and vector == FLOATS else None)
def _scatter(context, builder, signature, arguments):
    pointers = _strided(context, builder, signature, arguments)
    mask = first(builder, _integer(context, builder, arguments[4], signature.args[4]))
    intrinsic(builder, f"llvm.masked.scatter.v{LANES}f32.v{LANES}p0", ir.VoidType(), arguments[3], pointers, _I32(4),
              mask)
    return context.get_dummy_value()


def _all_floats(*vectors):
    return FLOATS if all(v == FLOATS for v in vectors) else None


@compiled(fma, lambda a, b, c: _all_floats(a, b, c))
def _fma(context, builder, signature, arguments):
    return intrinsic(builder, f"llvm.fmuladd.v{LANES}f32", FLOATS.ir, *arguments)


@compiled(fma_rows, lambda a, rows, sums: sums if _all_floats(a, *rows, *sums) and len(rows) == len(sums) else None)
def _fma_rows(context, builder, signature, arguments):
    factor, (rows, sums) = arguments[0], (cgutils.unpack_tuple(builder, vectors) for vectors in arguments[1:])
    return context.make_tuple(builder, signature.return_type, [
        intrinsic(builder, f"llvm.fmuladd.v{LANES}f32", FLOATS.ir, factor, row, total)
        for row, total in zip(rows, sums, strict=True)])


for _function, _comparison in ((maximum, ">"), (minimum, "<")):
    @compiled(_function, lambda a, b: _all_floats(a, b))
    def _choose(context, builder, signature, arguments, comparison=_comparison):
        return builder.select(builder.fcmp_ordered(comparison, *arguments), *arguments)


def _arithmetic(a, b):
    """A vector with a vector or a number."""
    return FLOATS if FLOATS in (a, b) and all(v == FLOATS or isinstance(v, types.Number) for v in (a, b)) else None


for _operator, _instruction in ((operator.add, "fadd"), (operator.sub, "fsub"), (operator.mul, "fmul")):
    for _left, _right in ((Vector, Vector), (Vector, types.Number), (types.Number, Vector)):
        @lower_builtin(_operator, _left, _right)
        def _compute(context, builder, signature, arguments, instruction=_instruction):
            a, b = (value if kind == FLOATS else spread(builder, context.cast(builder, value, kind, types.float32))
                    for value, kind in zip(arguments, signature.args, strict=True))
            return getattr(builder, instruction)(a, b, flags=_FLAGS)
    type_callable(_operator)(lambda context: lambda a, b: _arithmetic(a, b))


@lower_builtin(operator.neg, Vector)
def _negate(context, builder, signature, arguments):
    return builder.fneg(arguments[0])


type_callable(operator.neg)(lambda context: lambda a: FLOATS if a == FLOATS else None)


_INTS = ir.VectorType(_I32, LANES)


def _each(value):
    return ir.Constant(_INTS, [value] * LANES)


@compiled(magnitude, lambda a, b: _all_floats(a, b))
def _magnitude(context, builder, signature, arguments):
    a, b = (builder.bitcast(value, _INTS) for value in arguments)
    b = builder.and_(b, _each(0x7FFFFFFF))
    return builder.bitcast(builder.select(builder.icmp_signed(">", a, b), a, b), FLOATS.ir)


def _rounded(builder, vector):
    """The bits of bf16(vector)."""
    bits = builder.bitcast(vector, _INTS)
    last = builder.and_(builder.lshr(bits, _each(16)), _each(1))
    return builder.and_(builder.add(bits, builder.add(last, _each(0x7FFF))), _each(-0x10000))


@compiled(bf16, lambda vector: _all_floats(vector))
def _bf16(context, builder, signature, arguments):
    return builder.bitcast(_rounded(builder, arguments[0]), FLOATS.ir)


@compiled(pair, lambda a, b: _all_floats(a, b))
def _pair(context, builder, signature, arguments):
    lower, upper = (_rounded(builder, value) for value in arguments)
    return builder.bitcast(builder.or_(builder.lshr(lower, _each(16)), upper), FLOATS.ir)


class _BFloat(ir.Type):
    """The one kind of float that llvmlite cannot name."""

    def _to_string(self):
        return "bfloat"

    def __eq__(self, other):
        return isinstance(other, _BFloat)

    def __hash__(self):
        return hash(_BFloat)


@compiled(words, lambda a, b: _all_floats(a, b))
def _words(context, builder, signature, arguments):
    a, b = arguments
    if LANES == 16 and "avx512bf16" in FEATURES:
        packed = ir.VectorType(_BFloat(), 32)
        return builder.bitcast(intrinsic(builder, "llvm.x86.avx512bf16.cvtne2ps2bf16.512", packed, b, a), FLOATS.ir)
    lower, upper = (_rounded(builder, shuffle(builder, a, b, range(k, 2 * LANES, 2))) for k in (0, 1))
    return builder.bitcast(builder.or_(builder.lshr(lower, _each(16)), upper), FLOATS.ir)


@compiled(evens, lambda words: _all_floats(words))
def _evens(context, builder, signature, arguments):
    return builder.bitcast(builder.shl(builder.bitcast(arguments[0], _INTS), _each(16)), FLOATS.ir)


@compiled(odds, lambda words: _all_floats(words))
def _odds(context, builder, signature, arguments):
    return builder.bitcast(builder.and_(builder.bitcast(arguments[0], _INTS), _each(-0x10000)), FLOATS.ir)


@compiled(straddle, lambda a, b: _all_floats(a, b))
def _straddle(context, builder, signature, arguments):
    a, b = (builder.bitcast(value, _INTS) for value in arguments)
    return builder.bitcast(intrinsic(builder, f"llvm.fshl.v{LANES}i32", _INTS, b, a, _each(16)), FLOATS.ir)


for _zip, _start in ((zip_first, 0), (zip_last, LANES)):
    @compiled(_zip, lambda a, b: _all_floats(a, b))
    def _compile_zip(context, builder, signature, arguments, start=_start):
        a, b = (builder.bitcast(value, ir.VectorType(ir.IntType(16), 2 * LANES)) for value in arguments)
        order = [start + k + 2 * LANES * other for k in range(LANES) for other in (0, 1)]
        return builder.bitcast(shuffle(builder, a, b, order), FLOATS.ir)


@compiled(prefetch, lambda array, index: types.void if places(array, index) else None)
def _prefetch(context, builder, signature, arguments):
    (array_type, index_type), (array, index) = signature.args, arguments
    pointer = address(context, builder, array_type, array, index_type, index)
    intrinsic(builder, "llvm.prefetch.p0", ir.VoidType(), builder.bitcast(pointer, ir.IntType(8).as_pointer()),
              _I32(0), _I32(3), _I32(1))
    return context.get_dummy_value()


@compiled(peak, lambda vector: types.float32 if vector == FLOATS else None)
def _peak(context, builder, signature, arguments):
    bits = builder.bitcast(arguments[0], _INTS)
    return builder.bitcast(intrinsic(builder, f"llvm.vector.reduce.smax.v{LANES}i32", _I32, bits), _F32)


@compiled(total, lambda vector: types.float32 if vector == FLOATS else None)
def _total(context, builder, signature, arguments):
    vector, lanes = arguments[0], LANES
    while lanes > 1:
        lanes //= 2
        vector = builder.fadd(shuffle(builder, vector, vector, range(lanes)),
                              shuffle(builder, vector, vector, range(lanes, 2 * lanes)))
    return builder.extract_element(vector, _I32(0))


def _as_many(vectors):
    return vectors if isinstance(vectors, types.BaseTuple) and len(vectors) and _all_floats(*vectors) else None


def _joined(builder, vectors):
    """One long vector; LLVM cuts it into registers again."""
    vectors = list(vectors)
    if len(vectors) == 1:
        return vectors[0]
    half = 1 << (len(vectors) - 1).bit_length() - 1
    left, right = _joined(builder, vectors[:half]), _joined(builder, vectors[half:])
    short, long = right.type.count, left.type.count
    if short < long:                                 # a shuffle wants equals
        right = shuffle(builder, right, right, [*range(short), *[0] * (long - short)])
    return shuffle(builder, left, right, range(long + short))


@compiled(deinterleave, _as_many)
def _deinterleave(context, builder, signature, arguments):
    n = len(signature.return_type)
    joined = _joined(builder, cgutils.unpack_tuple(builder, arguments[0]))
    parts = [shuffle(builder, joined, joined, range(k, n * LANES, n)) for k in range(n)]
    return context.make_tuple(builder, signature.return_type, parts)


@compiled(interleave, _as_many)
def _interleave(context, builder, signature, arguments):
    n = len(signature.return_type)
    joined = _joined(builder, cgutils.unpack_tuple(builder, arguments[0]))
    order = [k * LANES + lane for lane in range(LANES) for k in range(n)]
    parts = [shuffle(builder, joined, joined, order[k * LANES:(k + 1) * LANES]) for k in range(n)]
    return context.make_tuple(builder, signature.return_type, parts)


def transposed(builder, rows):
    """The columns of a square, by exchanging ever smaller blocks across its diagonal."""
    rows, lanes = list(rows), len(rows)
    step = lanes // 2
    while step:
        upper = [k if not k & step else lanes + (k ^ step) for k in range(lanes)]
        lower = [lanes + k if k & step else k | step for k in range(lanes)]
        for i in range(lanes):
            if not i & step:
                a, b = rows[i], rows[i + step]
                rows[i], rows[i + step] = shuffle(builder, a, b, upper), shuffle(builder, a, b, lower)
        step //= 2
    return rows


@compiled(transpose, lambda rows: _as_many(rows) if isinstance(rows, types.UniTuple) and len(rows) == LANES else None)
def _transpose(context, builder, signature, arguments):
    return context.make_tuple(builder, signature.return_type,
                              transposed(builder, cgutils.unpack_tuple(builder, arguments[0])))


@compiled(transpose_square, lambda source, index, pitch, target, place, step:
          types.void if places(source, index) and places(target, place) else None)
def _transpose_square(context, builder, signature, arguments):
    def lines(first):
        operands = slice(first, first + 3)
        (array_type, index_type, step_type), (array, index, step) = signature.args[operands], arguments[operands]
        start = address(context, builder, array_type, array, index_type, index)
        step = _integer(context, builder, step, step_type)
        return [_ahead(builder, start, builder.mul(step, _I64(k))) for k in range(LANES)]
    columns = transposed(builder, [_read(builder, place) for place in lines(0)])
    for column, place in zip(columns, lines(3), strict=True):
        _write(builder, column, place)
    return context.get_dummy_value()


@compiled(zero_tile, lambda rows, columns: _Tile(rows.literal_value, columns.literal_value)
          if isinstance(rows, types.IntegerLiteral) and isinstance(columns, types.IntegerLiteral) else None)
def _zero_tile(context, builder, signature, arguments):
    return ir.Constant(context.get_value_type(signature.return_type), None)


def _outer_product(context, builder, signature, arguments, pitch):
    (tile_type, a_type, a_at, b_type, b_at), (tile, a, a_index, b, b_index) = signature.args, arguments
    column = address(context, builder, a_type, a, a_at, a_index)
    row = address(context, builder, b_type, b, b_at, b_index)
    vectors = [_read(builder, _ahead(builder, row, j * LANES)) for j in range(tile_type.columns)]
    for i in range(tile_type.rows):
        factor = spread(builder, builder.load(_ahead(builder, column, builder.mul(pitch, _I64(i)))))
        for j, vector in enumerate(vectors):
            place = i * tile_type.columns + j
            new = intrinsic(builder, f"llvm.fmuladd.v{LANES}f32", FLOATS.ir, factor, vector,
                            builder.extract_value(tile, place))
            tile = builder.insert_value(tile, new, place)
    return tile


@compiled(outer_add, lambda tile, a, a_index, b, b_index:
          tile if isinstance(tile, _Tile) and places(a, a_index) and places(b, b_index) else None)
def _outer_add(context, builder, signature, arguments):
    return _outer_product(context, builder, signature, arguments, _I64(1))


@compiled(outer_add_down, lambda tile, a, a_index, b, b_index:
          tile if isinstance(tile, _Tile) and places(a, a_index) and places(b, b_index) and a.ndim > 1 else None)
def _outer_add_down(context, builder, signature, arguments):
    pitch = _pitch(context, builder, signature.args[1], arguments[1])
    return _outer_product(context, builder, signature, arguments, pitch)


def _pitch(context, builder, array_type, array):
    """Elements from a row of an array to the next."""
    view = context.make_array(array_type)(context, builder, array)
    return builder.sdiv(cgutils.unpack_tuple(builder, view.strides)[-2], _I64(4), flags=("exact",))


def _tile_places(context, builder, tile_type, array_type, array, index_type, index):
    """(number of the vector, where it lies in the array)."""
    start = address(context, builder, array_type, array, index_type, index)
    pitch = _pitch(context, builder, array_type, array)
    for i in range(tile_type.rows):
        row = _ahead(builder, start, builder.mul(pitch, _I64(i)))
        for j in range(tile_type.columns):
            yield i * tile_type.columns + j, _ahead(builder, row, j * LANES)


@compiled(store_tile, lambda tile, array, index:
          types.void if isinstance(tile, _Tile) and places(array, index) and array.ndim > 1 else None)
def _store_tile(context, builder, signature, arguments):
    (tile_type, array_type, index_type), (tile, array, index) = signature.args, arguments
    for number, place in _tile_places(context, builder, tile_type, array_type, array, index_type, index):
        _write(builder, builder.extract_value(tile, number), place)
    return context.get_dummy_value()


@compiled(add_tile, lambda tile, array, index:
          tile if isinstance(tile, _Tile) and places(array, index) and array.ndim > 1 else None)
def _add_tile(context, builder, signature, arguments):
    (tile_type, array_type, index_type), (tile, array, index) = signature.args, arguments
    for number, place in _tile_places(context, builder, tile_type, array_type, array, index_type, index):
        new = builder.fadd(builder.extract_value(tile, number), _read(builder, place))
        tile = builder.insert_value(tile, new, number)
    return tile
