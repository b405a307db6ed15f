"""What becomes of the sums of a convolution on the matrix unit: rows of y, or lines.

A group of accumulators leaves its sums in scratch, where they are brought into order and written in long runs.
"""

from typing import NamedTuple

import numpy as np

from tinyseg.jit import jit
from tinyseg.kernels.cpu.matrix_unit_lines import LINE
from tinyseg.kernels.cpu.matrix_unit_pack import TILE
from tinyseg.kernels.cpu.vector import (
    bf16,
    interleave,
    load,
    load_part,
    magnitude,
    maximum,
    prefetch,
    scatter,
    splat,
    store,
    store_part,
    transpose_square,
    words,
)

__all__ = ["DIRECT", "LINES", "SCATTERED", "SCRATCH", "STRETCH", "Images", "Result", "Waiting",
           "fetch_lines", "find_places", "lay_down", "write", "write_lines", "write_rest"]

STRETCH = 384                                        # positions whose sums are written together, in long runs
_ORDERED = 6 * TILE                                  # where they wait, after the accumulators
SCRATCH = _ORDERED + 2 * LINE * STRETCH + LINE
DIRECT, SCATTERED, LINES = 0, -1, -2                 # see `Result`


class Images(NamedTuple):
    """y, and what becomes of sums.

    first, image    where the first image or group of it starts, and from one to the next
    height, width   of an image
    step            rows and columns of y from a position to the next
    bias            (groups, channels)
    relu            cut off below 0?
    row, block, below    for lines, in elements: from a row to the next, to the next block of channels, and to the lower
                         halves, 0 where there are none
    """

    first: int
    image: int
    height: int
    width: int
    step: tuple[int, int]
    bias: np.ndarray
    relu: bool
    row: int
    block: int
    below: int


class Waiting(NamedTuple):
    """Sums of 32 outputs, which wait in scratch until they are written as lines.

    first, count      positions, by their numbers in the table of `find_places`
    place, beside     in scratch: a row of 16 for each position, and how much later the other 16
    channel, block    of y, the first, and where its lines begin
    """

    first: int
    count: int
    place: int
    beside: int
    channel: int
    block: int


class Result(NamedTuple):
    """One image or group of y, and one part.

    outputs    (M, 4), see `matrix_unit_plan.Part`
    form       k > 0: the columns of k consecutive outputs come between one another;
               DIRECT: 16 consecutive outputs are 16 columns; SCATTERED: anything;
               LINES: y is no NCHW array but lines of 32 channels, which are 32 consecutive outputs
    The rest is as in `Images`.
    """

    start: int
    height: int
    width: int
    step: tuple[int, int]
    outputs: np.ndarray
    form: int
    bias: np.ndarray
    relu: bool
    row: int
    block: int
    below: int


@jit(inner=True)
def lay_down(scratch, position, across, along, form):
    """Bring accumulators into order: a row for each output, or for DIRECT a row for each position."""
    for k in range(across):
        for n in range(along):
            tile, place = (k * along + n) * TILE, position + n * LINE
            if form == DIRECT:
                for row in range(LINE):
                    store(scratch, _ORDERED + (place + row) * 2 * LINE + k * LINE, load(scratch, tile + row * LINE))
            else:
                transpose_square(scratch, tile, LINE, scratch, _ORDERED + k * LINE * STRETCH + place, STRETCH)


@jit(inner=True)
def write(scratch, k, begin, end, output, row, band, y, result):
    """Write the sums of 16 outputs at positions `begin` .. `end` - 1, the k-th of the blocks laid down."""
    count = min(LINE, len(result.outputs) - output)
    position = begin
    while position < end:
        i, j = row + position // band.pitch * band.apart, position % band.pitch
        run = min(end - position, band.pitch - j)
        wanted, place = min(run, band.positions - j), _ORDERED + position - begin
        if wanted > 0 and result.form == DIRECT:
            for n in range(wanted):
                _write_run(scratch, _ORDERED + (position - begin + n) * 2 * LINE + k * LINE, count, i, j + n, output,
                           y, result)
        elif wanted > 0 and result.form == 2:
            for o in range(0, count, 2):
                first = place + (k * LINE + o) * STRETCH
                for n in range(0, wanted, LINE):
                    even, odd = interleave((load(scratch, first + n), load(scratch, first + STRETCH + n)))
                    store(scratch, 2 * n, even)
                    store(scratch, 2 * n + LINE, odd)
                _write_run(scratch, 0, 2 * wanted, i, j, output + o, y, result)
        elif wanted > 0:
            for o in range(count):
                _write_run(scratch, place + (k * LINE + o) * STRETCH, wanted, i, j, output + o, y, result)
        position += run


@jit(inner=True)
def _write_run(scratch, place, count, i, j, output, y, result):
    """Write `count` neighbouring sums to y from position (i, j) on, as far as they lie inside."""
    channel = result.outputs[output, 1]
    h = i * result.step[0] + result.outputs[output, 2]
    w = j * result.step[1] + result.outputs[output, 3]
    step = result.step[1] if result.form == SCATTERED else 1
    if not 0 <= h < result.height:
        return
    first, last = max(0, -(w // step)), min(count, (result.width - 1 - w) // step + 1)
    start = result.start + (channel * result.height + h) * result.width + w
    bias = result.bias[channel]
    for k in range(first, last, LINE):
        sums = load_part(scratch, place + k, last - k) + bias
        if result.relu:
            sums = maximum(splat(0), sums)           # in this order NaN stays
        if step > 1:
            scatter(y, start + k * step, step, sums, last - k)
        else:
            store_part(y, start + k, sums, last - k)


@jit(inner=True)
def find_places(table, begin, end, output, row, band, result):
    """table[k]: where the line of position begin + k lies in a block of channels, or -1 where it lies in none.

    One more where it is the last of its row: a line of zeros follows.
    """
    i, j = begin // band.pitch, begin % band.pitch
    for k in range(end - begin):
        h = (row + i * band.apart) * result.step[0] + result.outputs[output, 2]
        w = j * result.step[1] + result.outputs[output, 3]
        inside = 0 <= h < result.height and 0 <= w < result.width and j < band.positions
        table[k] = h * result.row + w * LINE + (w == result.width - 1) if inside else -1
        j += 1
        if j == band.pitch:
            i, j = i + 1, 0


@jit(inline="always")
def fetch_lines(table, waiting, done, count, y, result):
    """Have so many lines of those that will be written next brought to the cache."""
    for k in range(waiting.first + waiting.count + done, waiting.first + waiting.count + done + count):
        prefetch(y, waiting.block + (table[k] & -LINE))
        if result.below:
            prefetch(y, waiting.block + result.below + (table[k] & -LINE))


@jit(inline="always")
def write_lines(scratch, table, waiting, done, count, y, result, largest):
    """Write `count` of the lines that wait, without the `done` first.  Returns `largest`, raised to what is written."""
    low, high, zero = load(result.bias, waiting.channel), load(result.bias, waiting.channel + LINE), splat(0)
    for k in range(done, min(done + count, waiting.count)):
        if table[waiting.first + k] >= 0:
            place, line = waiting.place + k * LINE, waiting.block + (table[waiting.first + k] & -LINE)
            a, b = load(scratch, place) + low, load(scratch, place + waiting.beside) + high
            if result.relu:
                a, b = maximum(zero, a), maximum(zero, b)
            largest = magnitude(magnitude(largest, a), b)
            store(y, line, words(a, b))
            if result.below:
                store(y, line + result.below, words(a - bf16(a), b - bf16(b)))
            if table[waiting.first + k] & 1:
                store(y, line + LINE, zero)
                if result.below:
                    store(y, line + LINE + result.below, zero)
    return largest


@jit(inner=True)
def write_rest(scratch, table, waiting, done, y, result, largest):
    """All lines that still wait."""
    if done < waiting.count:
        largest = write_lines(scratch, table, waiting, done, waiting.count, y, result, largest)
    return largest
