"""Numbers in the order in which the matrix unit reads them: lines of 32 bf16 numbers, 16 words, 64 bytes.

A line holds 32 channels of one pixel, so that 16 neighbouring pixels are a tile.  The other operand is a tile whose row
k holds channels 2k and 2k + 1 of 16 outputs.  Split in two, a float32 number x becomes hi = bf16(x) in one line and
lo = bf16(x - hi) in another.
"""

from math import prod

import numpy as np
from llvmlite import ir
from numba import types

from tinyseg.jit import jit
from tinyseg.kernels.cpu.vector import (
    FLOATS,
    LANES,
    address,
    bf16,
    compiled,
    load,
    magnitude,
    pair,
    places,
    splat,
    store,
    transpose,
    transposed,
)

__all__ = ["LINE", "gather_at", "pack_lines", "pack_split_lines", "pack_tile", "representable"]

LINE = 16                                            # words
_SMALLEST, _LARGEST = 1e-30, 1e30                    # of a product: far from where numbers vanish or overflow


def representable(*largest):
    """May the matrix unit multiply arrays of these largest magnitudes?

    It takes denormal numbers for zero, what rounds beyond the largest float32 becomes infinite, and the lower half of
    an infinite number is a NaN.  Zeros are fine.
    """
    if not all(_SMALLEST <= number <= _LARGEST for number in largest if number != 0):
        return False
    product = prod(map(float, largest))
    return product == 0 or _SMALLEST <= product <= _LARGEST


# ---- what the words mean -------------------------------------------------------------------------------------------

def gather_at(array, index, steps, first):
    """Lane i is the element steps[first + i] after `index`, counted in elements of the C-contiguous array."""
    places = index + steps[first:first + LANES]
    assert len(places) == LANES, "a gather leaves its steps"
    assert places.min() >= 0, "a gather begins before its array"
    return array.reshape(-1)[places]


def pack_lines(lines, line, array, index, steps, first):
    """16 pixels x 32 channels, rounded, to 16 lines.  Returns the largest magnitudes, a vector.

    Channel c of the pixels are the 16 numbers from array[index + steps[first + c]] on; the lines follow one another
    from lines[line] on.
    """
    numbers = _channels(array, index, steps, first)
    _write(lines, line, _rounded(numbers))
    return np.abs(numbers).max(0)


def pack_split_lines(lines, line, below, array, index, steps, first):
    """The same, and what was rounded off to lines that begin `below` elements later."""
    numbers = _channels(array, index, steps, first)
    upper = _rounded(numbers)
    _write(lines, line, upper)
    with np.errstate(invalid="ignore"):
        _write(lines, line + below, _rounded(numbers - upper))
    return np.abs(numbers).max(0)


def _channels(array, index, steps, first):
    starts = index + steps[first:first + 32]
    assert len(starts) == 32, "channels leave their table"
    return np.stack([load(array, start) for start in starts])            # (32, 16)


def _rounded(numbers):
    """To bf16, halves away from zero."""
    return (numbers.view(np.uint32) + np.uint32(0x8000) & np.uint32(0xFFFF0000)).view(np.float32)


def _write(lines, line, numbers):
    for k, column in enumerate(transpose(tuple(pair(a, b) for a, b in zip(numbers[::2], numbers[1::2], strict=True)))):
        store(lines, line + LINE * k, column)


# ---- what the compiler makes of them -------------------------------------------------------------------------------

_I32, _I64 = ir.IntType(32), ir.IntType(64)
_INTS = ir.VectorType(_I32, LANES)


def _each(value):
    return ir.Constant(_INTS, [value] * LANES)


def _table(kind):
    return isinstance(kind, types.Array) and kind.layout == "C" and kind.ndim == 1 and kind.dtype == types.int64


@compiled(gather_at, lambda array, index, steps, first: FLOATS if places(array, index) and _table(steps) else None)
def _gather_at(context, builder, signature, arguments):
    (array_type, index_type, steps_type, first_type), (array, index, steps, first) = signature.args, arguments
    start = address(context, builder, array_type, array, index_type, index)
    table = address(context, builder, steps_type, steps, first_type, first)
    result = ir.Constant(FLOATS.ir, ir.Undefined)
    for lane in range(LANES):
        step = builder.load(builder.gep(table, [_I64(lane)]))
        result = builder.insert_element(result, builder.load(builder.gep(start, [step])), _I32(lane))
    return result


def _upper(builder, bits):
    """Rounded to bf16, halves away from zero, and still with the lower 16 bits in place."""
    return builder.add(bits, _each(0x8000))


def _joined(builder, a, b):
    """Words of the upper halves."""
    return builder.or_(builder.lshr(a, _each(16)), builder.and_(b, _each(-0x10000)))


def _rest(builder, number, rounded):
    """The bits of number - rounded."""
    near = builder.bitcast(builder.and_(rounded, _each(-0x10000)), FLOATS.ir)
    return builder.bitcast(builder.fsub(builder.bitcast(number, FLOATS.ir), near), _INTS)


@compiled(pack_lines, lambda lines, line, array, index, steps, first:
          FLOATS if places(lines, line) and places(array, index) and _table(steps) else None)
def _pack_lines(context, builder, signature, arguments):
    pixels, largest = _pixels(context, builder, signature.args[2:], arguments[2:])
    target = address(context, builder, signature.args[0], arguments[0], signature.args[1], arguments[1])
    _write_lines(builder, [_joined(builder, *(_upper(builder, bits) for bits in two)) for two in pixels], target)
    return largest


@compiled(pack_split_lines, lambda lines, line, below, array, index, steps, first:
          FLOATS if places(lines, line) and places(array, index) and _table(steps) else None)
def _pack_split_lines(context, builder, signature, arguments):
    pixels, largest = _pixels(context, builder, signature.args[3:], arguments[3:])
    target = address(context, builder, signature.args[0], arguments[0], signature.args[1], arguments[1])
    below = context.cast(builder, arguments[2], signature.args[2], types.int64)
    upper, lower = [], []
    for two in pixels:
        rounded = [_upper(builder, bits) for bits in two]
        upper.append(_joined(builder, *rounded))
        lower.append(_joined(builder, *(_upper(builder, _rest(builder, *both))
                                        for both in zip(two, rounded, strict=True))))
    _write_lines(builder, upper, target)
    _write_lines(builder, lower, builder.gep(target, [below]))
    return largest


def _pixels(context, builder, kinds, operands):
    """16 pairs of neighbouring channels, as bits, and the largest magnitudes."""
    (array_type, index_type, steps_type, first_type), (array, index, steps, first) = kinds, operands
    start = address(context, builder, array_type, array, index_type, index)
    table = address(context, builder, steps_type, steps, first_type, first)
    largest, channels = _each(0), []
    for channel in range(2 * LINE):
        step = builder.load(builder.gep(table, [_I64(channel)]))
        bits = builder.load(builder.bitcast(builder.gep(start, [step]), _INTS.as_pointer()))
        bits.align = 4
        absolute = builder.and_(bits, _each(0x7FFFFFFF))
        largest = builder.select(builder.icmp_signed(">", absolute, largest), absolute, largest)
        channels.append(bits)
    return list(zip(channels[::2], channels[1::2], strict=True)), builder.bitcast(largest, FLOATS.ir)


def _write_lines(builder, rows, target):
    for k, column in enumerate(transposed(builder, rows)):
        place = builder.bitcast(builder.gep(target, [_I64(LINE * k)]), _INTS.as_pointer())
        builder.store(column, place).align = 4


# ---- weights -------------------------------------------------------------------------------------------------------

@jit
def pack_tile(tiles, place, below, weight, start, outputs, output, together, inputs, first, largest):
    """A tile of 32 channels x 16 outputs, written to tiles[place] .. +256; the lower halves `below` elements later,
    unless that is 0.  Returns `largest` raised to the largest magnitudes.

    Weight (o, c) is weight[start + outputs[output + o] + inputs[first + c]]; a negative number in `inputs` stands for
    zeros.  together: do those of all outputs lie side by side?
    """
    for k in range(LINE):
        a = _row(weight, start, outputs, output, together, inputs[first + 2 * k])
        b = _row(weight, start, outputs, output, together, inputs[first + 2 * k + 1])
        largest = magnitude(magnitude(largest, a), b)
        store(tiles, place + LINE * k, pair(a, b))
        if below:
            store(tiles, place + below + LINE * k, pair(a - bf16(a), b - bf16(b)))
    return largest


@jit
def _row(weight, start, outputs, output, together, further):
    if further < 0:
        return splat(0)
    if together:
        return load(weight, start + further + outputs[output])
    return gather_at(weight, start + further, outputs, output)
