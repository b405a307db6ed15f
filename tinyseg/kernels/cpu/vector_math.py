"""What kernels between convolutions ask of vectors, beyond `vector`: choices, functions, and sums in float64.

A `Wide` is LANES numbers of float64.  Sums of float32 kept in it are right to the last digit of float32, however many.
As in `vector`, the Python body of a function is its meaning.
"""

import operator

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import lower_builtin, models, register_model, type_callable

from tinyseg.kernels.cpu.vector import FLOATS, LANES, address, compiled, intrinsic, places, shuffle, spread, store

__all__ = ["divide", "exp", "narrow", "put", "ramp", "root", "where_equal", "where_larger", "where_positive", "wide",
           "wide_total", "widen"]


# ---- what the words mean -------------------------------------------------------------------------------------------

def put(array, index, vector, past_cache):
    """`store`, past the cache if asked: for large results, whose lines need not be read before they are written over.

    past_cache    the index must then be a multiple of LANES from the start of an array from the workspace
    """
    store(array, index, vector)


def divide(a, b):
    """a / b, lane by lane, or of numbers."""
    with np.errstate(all="ignore"):
        return a / b


def root(vector):
    """The square root, lane by lane, or of a number."""
    with np.errstate(invalid="ignore"):
        return np.sqrt(vector)


def exp(vector):
    """The exponential function to one or two units in the last place."""
    with np.errstate(over="ignore", under="ignore"):
        return np.exp(vector)


def where_positive(condition, value):
    """`value` where the condition is above 0, else 0."""
    return np.where(condition > 0, value, np.float32(0))


def where_larger(a, b, this, other):
    """`this` where a is larger than b, or is NaN; else `other`."""
    return np.where((a > b) | np.isnan(a), this, other)


def where_equal(a, b, value):
    """`value` where a and b hold the same bits, else 0."""
    return np.where(a.view(np.int32) == b.view(np.int32), value, np.float32(0))


def ramp(start, step):
    """The bits of the int32 numbers start, start + step, start + 2·step, ..."""
    return (start + step * np.arange(LANES)).astype(np.int32).view(np.float32)


def wide(number):
    """The same number in every lane of a `Wide`."""
    return np.full(LANES, number, np.float64)


def widen(vector):
    """A vector of float32 as a `Wide`."""
    return vector.astype(np.float64)


def narrow(vector):
    """A `Wide`, each lane rounded to float32."""
    return vector.astype(np.float32)


def wide_total(vector):
    """The sum over the lanes of a `Wide`."""
    return vector.sum()


# ---- what the compiler makes of them -------------------------------------------------------------------------------

_F32, _F64, _I32 = ir.FloatType(), ir.DoubleType(), ir.IntType(32)
_INTS, _DOUBLES = ir.VectorType(_I32, LANES), ir.VectorType(_F64, LANES)
_FLAGS = ("contract", "nsz")


class Wide(types.Type):
    def __init__(self):
        super().__init__("wide")


WIDE = Wide()


@register_model(Wide)
class _WideModel(models.PrimitiveModel):
    def __init__(self, manager, kind):
        super().__init__(manager, kind, _DOUBLES)


def _when(*expected, result=FLOATS):
    """A rule for `compiled`: `result` for arguments of these types, None standing for any number."""
    def rule(*given):
        fits = all(isinstance(g, types.Number) if e is None else g == e for g, e in zip(given, expected, strict=True))
        return result if fits else None
    # Numba wants to see the names of the arguments.
    return (lambda a: rule(a), lambda a, b: rule(a, b), lambda a, b, c: rule(a, b, c),
            lambda a, b, c, d: rule(a, b, c, d))[len(expected) - 1]


def _constant(kind, number):
    return ir.Constant(kind, [number] * LANES)


@compiled(put, lambda array, index, vector, past_cache:
          types.void if places(array, index) and vector == FLOATS and past_cache == types.boolean else None)
def _put(context, builder, signature, arguments):
    (array_type, index_type, *_), (array, index, vector, past_cache) = signature.args, arguments
    pointer = address(context, builder, array_type, array, index_type, index)
    pointer = builder.bitcast(pointer, vector.type.as_pointer())
    with builder.if_else(past_cache) as (then, otherwise):
        with then:
            past = builder.store(vector, pointer, align=4 * LANES)
            past.set_metadata("nontemporal", builder.module.add_metadata([ir.Constant(_I32, 1)]))
        with otherwise:
            builder.store(vector, pointer, align=4)
    return context.get_dummy_value()


def _vectors_or_numbers(*given):
    """FLOATS for vectors, float64 for numbers."""
    if all(g == FLOATS for g in given):
        return FLOATS
    return types.float64 if all(isinstance(g, types.Number) for g in given) else None


@compiled(divide, lambda a, b: _vectors_or_numbers(a, b))
def _divide(context, builder, signature, arguments):
    kind = signature.return_type
    return builder.fdiv(*(context.cast(builder, value, given, kind)
                          for value, given in zip(arguments, signature.args, strict=True)))


@compiled(root, lambda vector: _vectors_or_numbers(vector))
def _root(context, builder, signature, arguments):
    kind, (given,) = signature.return_type, signature.args
    name = f"llvm.sqrt.v{LANES}f32" if kind == FLOATS else "llvm.sqrt.f64"
    return intrinsic(builder, name, context.get_value_type(kind), context.cast(builder, *arguments, given, kind))


@compiled(exp, _when(FLOATS))
def _exp(context, builder, signature, arguments):
    """exp(x) = 2^n · exp(r) with x = n·log 2 + r, |r| <= log(2)/2; the polynomial is that of Cephes' expf."""
    def number(value):
        return _constant(FLOATS.ir, value)

    def fma(a, b, c):
        return intrinsic(builder, f"llvm.fma.v{LANES}f32", FLOATS.ir, a, b, c)

    x, = arguments
    for bound, beyond in ((-104.0, "<"), (89.0, ">")):                   # a comparison with NaN fails and keeps it
        x = builder.select(builder.fcmp_ordered(beyond, x, number(bound)), number(bound), x)
    n = intrinsic(builder, f"llvm.rint.v{LANES}f32", FLOATS.ir, builder.fmul(x, number(1.4426950408889634)))
    r = fma(n, number(2.12194440e-4), fma(n, number(-0.693359375), x))
    p = number(1.9875691500e-4)
    for coefficient in (1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 5.0000001201e-1):
        p = fma(p, r, number(coefficient))
    y = builder.fadd(fma(p, builder.fmul(r, r), r), number(1.0))
    whole = intrinsic(builder, f"llvm.fptosi.sat.v{LANES}i32.v{LANES}f32", _INTS, n)
    half = builder.ashr(whole, _constant(_INTS, 1))
    for power in (half, builder.sub(whole, half)):                       # 2^128 and 2^-150 are no float32; halves are
        bits = builder.shl(builder.add(power, _constant(_INTS, 127)), _constant(_INTS, 23))
        y = builder.fmul(y, builder.bitcast(bits, FLOATS.ir))
    return y


@compiled(where_positive, _when(FLOATS, FLOATS))
def _where_positive(context, builder, signature, arguments):
    condition, value = arguments
    zero = _constant(FLOATS.ir, 0.0)
    return builder.select(builder.fcmp_ordered(">", condition, zero), value, zero)


@compiled(where_larger, _when(FLOATS, FLOATS, FLOATS, FLOATS))
def _where_larger(context, builder, signature, arguments):
    a, b, this, other = arguments
    taken = builder.or_(builder.fcmp_ordered(">", a, b), builder.fcmp_unordered("uno", a, a))
    return builder.select(taken, this, other)


@compiled(where_equal, _when(FLOATS, FLOATS, FLOATS))
def _where_equal(context, builder, signature, arguments):
    a, b = (builder.bitcast(value, _INTS) for value in arguments[:2])
    return builder.select(builder.icmp_signed("==", a, b), arguments[2], _constant(FLOATS.ir, 0.0))


@compiled(ramp, _when(None, None))
def _ramp(context, builder, signature, arguments):
    start, step = (spread(builder, context.cast(builder, value, kind, types.int32))
                   for value, kind in zip(arguments, signature.args, strict=True))
    lanes = ir.Constant(_INTS, list(range(LANES)))
    return builder.bitcast(builder.add(start, builder.mul(step, lanes)), FLOATS.ir)


@compiled(wide, _when(None, result=WIDE))
def _wide(context, builder, signature, arguments):
    return spread(builder, context.cast(builder, arguments[0], signature.args[0], types.float64))


@compiled(widen, _when(FLOATS, result=WIDE))
def _widen(context, builder, signature, arguments):
    return builder.fpext(arguments[0], _DOUBLES)


@compiled(narrow, _when(WIDE))
def _narrow(context, builder, signature, arguments):
    return builder.fptrunc(arguments[0], FLOATS.ir)


@compiled(wide_total, _when(WIDE, result=types.float64))
def _wide_total(context, builder, signature, arguments):
    vector, lanes = arguments[0], LANES
    while lanes > 1:
        lanes //= 2
        vector = builder.fadd(shuffle(builder, vector, vector, range(lanes)),
                              shuffle(builder, vector, vector, range(lanes, 2 * lanes)))
    return builder.extract_element(vector, _I32(0))


for _operator, _instruction in ((operator.add, "fadd"), (operator.sub, "fsub"), (operator.mul, "fmul")):
    @lower_builtin(_operator, Wide, Wide)
    def _compute(context, builder, signature, arguments, instruction=_instruction):
        return getattr(builder, instruction)(*arguments, flags=_FLAGS)
    type_callable(_operator)(lambda context: _when(WIDE, WIDE, result=WIDE))
