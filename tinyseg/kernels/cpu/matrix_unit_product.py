"""The loops of a convolution on the matrix unit: multiply a band of lines by the tiles of a weight.

Arrays are flat; `matrix_unit_plan` says what lies where.  Positions are numbered i·pitch + j within a band, and a group
of tiles is as many neighbouring ones as there are accumulators for, beside one or two blocks of 16 outputs.
"""

from typing import NamedTuple

import numpy as np

from tinyseg.jit import jit
from tinyseg.kernels.cpu.amx import begin_tiles, end_tiles, tile_dot, tile_load, tile_store, tile_zero
from tinyseg.kernels.cpu.matrix_unit_lines import LINE
from tinyseg.kernels.cpu.matrix_unit_pack import TILE
from tinyseg.kernels.cpu.matrix_unit_result import (
    LINES,
    STRETCH,
    Result,
    Waiting,
    fetch_lines,
    find_places,
    lay_down,
    write,
    write_lines,
    write_rest,
)
from tinyseg.kernels.cpu.vector import prefetch

__all__ = ["FORM", "OUTPUT", "SQUARE", "STAY", "SUMS", "TAP", "TILES", "Band", "Parts", "multiply", "rows_of"]

AHEAD = 4 * TILE                                     # weights are fetched so much before they are needed
TAP, OUTPUT, TILES, SUMS, FORM, SQUARE, STAY = range(7)              # see `Parts`


class Parts(NamedTuple):
    """The parts of a correlation: tables that follow one another.

    numbers     for each part, and once more after the last:
                TAP, OUTPUT    its first
                TILES, SUMS    where its own begin
                FORM           see `Result`
                SQUARE         2 x 2 accumulators, tiles by blocks of outputs; else 6 x 1
                STAY           do the weights fit the cache?  Then positions outside, else outputs outside
    offsets     for each tap, elements from a position to what it reads
    tap_rows    for each tap, the row of x that it reads at the positions of row 0
    outputs     (M, 4), see `matrix_unit_plan.Part`
    size        elements of the tiles of all parts
    """

    numbers: np.ndarray
    offsets: np.ndarray
    tap_rows: np.ndarray
    outputs: np.ndarray
    size: int


class Band(NamedTuple):
    """What one turn multiplies: rows of positions by blocks of channels.

    row                the first row
    rows, apart        of a comb at most, and from one to the next; there are none after `height`
    combs, comb        of rows, which come between one another, and elements from one to the next
    positions, pitch   in a row, and from one to the next
    step, row_step     from a position to the next, in elements of lines, and from a row to the next; where positions
                       are more than a line apart, tiles do not go on from the end of a row to the next
    block, blocks      the first block of channels, and how many
    here, shift        how many of them lie in the first of two arrays of lines, and how much further in the other a
                       position is
    all_blocks         of the weights
    start              where position 0 lies in the first array
    """

    row: int
    rows: int
    apart: int
    height: int
    combs: int
    comb: int
    positions: int
    pitch: int
    step: int
    row_step: int
    block: int
    blocks: int
    here: int
    shift: int
    all_blocks: int
    start: int


# ---- multiplying ---------------------------------------------------------------------------------------------------

@jit(inner=True)
def multiply(lines, others, source, tiles, weights, parts, sums, band, y, images, image, scratch, table, largest):
    """Multiply a band of lines by the tiles from tiles[weights] on; write y, or keep sums for the next blocks.

    Returns the largest magnitudes written if the result are lines, a vector, from those so far.

    lines, others    two arrays of them; `band` says which blocks of channels lie where
    """
    begin_tiles()
    start, bias = images.first + image * images.image, images.bias[image % len(images.bias)]
    for p in range(len(parts.numbers) - 1):
        part, following = parts.numbers[p], parts.numbers[p + 1]
        result = Result(start, images.height, images.width, images.step, parts.outputs[part[OUTPUT]:following[OUTPUT]],
                        part[FORM], bias, images.relu, images.row, images.block, images.below)
        largest = _multiply_part(lines, others, source, tiles, weights + part[TILES],
                                 parts.offsets[part[TAP]:following[TAP]], parts.tap_rows[part[TAP]:following[TAP]],
                                 sums[part[SUMS]:], band, part[SQUARE] == 1, part[STAY] == 1, y, result, scratch,
                                 table, largest)
    end_tiles()
    return largest


@jit(inner=True)
def _multiply_part(lines, others, source, tiles, weights, offsets, tap_rows, sums, band, square, stay, y, result,
                   scratch, table, largest):
    """Lines of y are written while the next tiles multiply; see `Waiting`."""
    along, across = 2 if square else 6, 2 if square or result.form == LINES else 1
    # Many channels of many positions would leave the cache before the next outputs read them.
    size = 6 * LINE if result.form == LINES and stay and band.blocks * (2 if source.below else 1) > 16 else STRETCH
    each = -(-((band.rows - 1) * band.pitch + band.positions) // size)
    stretches = band.combs * each
    outputs = -(-len(result.outputs) // (across * LINE))
    finished = band.block + band.blocks == band.all_blocks
    to_lines, filled = finished and result.form == LINES, (-1, (0, 0))
    for turn in range(stretches * outputs):
        stretch, output = (turn // outputs, turn % outputs) if stay else (turn % stretches, turn // stretches)
        row, start = band.row + stretch // each, band.start + stretch // each * band.comb
        rows = rows_of(row, band.rows, band.apart, band.height)
        positions, begin = (rows - 1) * band.pitch + band.positions, stretch % each * size
        end = min(positions, begin + size)
        channel, place = _where(result, output * across * LINE)
        waiting = Waiting(0, 0, 0, along * TILE, channel, result.start + channel // (2 * LINE) * result.block)
        if to_lines and filled != (stretch, place):
            filled = stretch, place
            find_places(table, begin, end, output * across * LINE, row, band, result)
        for position in range(begin, end, along * LINE):
            bottom = min(rows - 1, (position + along * LINE - 1) // band.pitch)
            first, last = _taps(tap_rows, row + position // band.pitch * band.apart, row + bottom * band.apart, source)
            line = _line(band, start, position)
            into = 2 * along * TILE - waiting.place if to_lines else 0
            if square:
                other = _line(band, start, position + LINE) if position + LINE < positions else line
                kept = ((output * stretches + stretch) * size + position - begin) * 2 * LINE
                largest = _two_by_two(lines, others, line, other, source, tiles, weights, offsets, first, last, band,
                                      2 * output, min(2 * output + 1, (len(result.outputs) - 1) // LINE), sums, kept,
                                      scratch, into, table, waiting, y, result, largest)
            else:
                for half in range(across):
                    kept = (((across * output + half) * stretches + stretch) * size + position - begin) * LINE
                    largest = _six_by_one(lines, others, line, source, tiles, weights, offsets, first, last, band,
                                          across * output + half, sums, kept, scratch, into + 6 * half * TILE, table,
                                          waiting, half, y, result, largest)
            if to_lines:
                waiting = Waiting(position - begin, min(end - position, along * LINE), into, along * TILE, channel,
                                  waiting.block)
            elif finished:
                lay_down(scratch, position - begin, across, along, result.form)
        if to_lines:
            largest = write_rest(scratch, table, waiting, 0, y, result, largest)
        elif finished:
            for k in range(across):
                write(scratch, k, begin, end, (across * output + k) * LINE, row, band, y, result)
    return largest


@jit(inner=True)
def rows_of(row, rows, apart, height):
    """How many there are from `row` on, each `apart` from the one before: not more than `rows`, nor beyond `height`."""
    return max(0, min(rows, -(-(height - row) // apart)))


@jit(inner=True)
def _where(result, output):
    """Its channel in y, and the row and the column where position (0, 0) lies."""
    return result.outputs[output, 1], (result.outputs[output, 2], result.outputs[output, 3])


@jit(inner=True)
def _line(band, start, position):
    """Where the line of a position begins, for a tap and a block without distance."""
    if band.step == LINE and band.row_step == LINE * band.pitch:
        return start + LINE * position
    return start + position // band.pitch * band.row_step + position % band.pitch * band.step


@jit(inner=True)
def _taps(tap_rows, top, bottom, source):
    """The first and the last-plus-one tap that reads a row of x at positions from row `top` to row `bottom`."""
    first, last = 0, len(tap_rows)
    while first < last and bottom * source.stride + tap_rows[first] < 0:
        first += 1
    while first < last and top * source.stride + tap_rows[last - 1] >= source.height:
        last -= 1
    return first, last


@jit(inline="always")
def _six_by_one(lines, others, line, source, tiles, weights, offsets, first, last, band, output, sums, kept, scratch,
                into, table, waiting, half, y, result, largest):
    """Six tiles of positions from `line` on, by one block of outputs: to scratch[into], or to sums[kept].

    Meanwhile those that wait are written, in two halves.
    """
    if band.block:
        _exchange_six(sums, kept, True)
    else:
        tile_zero(0)
        tile_zero(1)
        tile_zero(2)
        tile_zero(3)
        tile_zero(4)
        tile_zero(5)
    taps, size, used = len(offsets), 2 * TILE if source.below else TILE, last - first
    each = max(1, min(8, 6 * LINE // max(1, 2 * band.blocks * used)))
    done, rows_ahead = half * each * band.blocks * used, 11 if used >= 8 and half == 0 else 0
    for b in range(band.blocks):
        tile = weights + ((output * band.all_blocks + band.block + b) * taps + first) * size
        here = b < band.here
        largest = _six_taps(lines if here else others, line + b * source.block + (0 if here else band.shift), source,
                            tiles, tile, offsets, first, last, rows_ahead, scratch, table, waiting, done, each, y,
                            result, largest)
        done += each * used
    if band.block + band.blocks == band.all_blocks:
        if half:
            largest = write_rest(scratch, table, waiting, done, y, result, largest)
        _exchange_six(scratch, into, False)
    else:
        _exchange_six(sums, kept, False)
    return largest


@jit(inline="always")
def _six_taps(lines, line, source, tiles, tile, offsets, first, last, rows_ahead, scratch, table, waiting, done, each,
              y, result, largest):
    """The taps of one block of channels; see `_four_taps`."""
    coming = line + 6 * TILE + (offsets[last - 1] if last > first else 0)
    for t in range(first, last):
        for k in range(rows_ahead):
            prefetch(lines, coming + k * LINE)
        coming += rows_ahead * LINE
        if done < waiting.count:
            largest = write_lines(scratch, table, waiting, done, each, y, result, largest)
            fetch_lines(table, waiting, done, each, y, result)
            done += each
        if source.below:
            _six(lines, line + offsets[t], tiles, tile + TILE)
            _six(lines, line + offsets[t], tiles, tile)
            _six(lines, line + offsets[t] + source.below, tiles, tile)
            tile += 2 * TILE
        else:
            _six(lines, line + offsets[t], tiles, tile)
            tile += TILE
    return largest


@jit(inner=True)
def _six(lines, line, tiles, tile):
    tile_load(7, tiles, tile, LINE)
    tile_load(6, lines, line, LINE)
    tile_dot(0, 6, 7)
    _ahead(tiles, tile + AHEAD)
    tile_load(6, lines, line + TILE, LINE)
    tile_dot(1, 6, 7)
    _ahead(tiles, tile + AHEAD + 4 * LINE)
    tile_load(6, lines, line + 2 * TILE, LINE)
    tile_dot(2, 6, 7)
    _ahead(tiles, tile + AHEAD + 8 * LINE)
    tile_load(6, lines, line + 3 * TILE, LINE)
    tile_dot(3, 6, 7)
    _ahead(tiles, tile + AHEAD + 12 * LINE)
    tile_load(6, lines, line + 4 * TILE, LINE)
    tile_dot(4, 6, 7)
    tile_load(6, lines, line + 5 * TILE, LINE)
    tile_dot(5, 6, 7)


@jit(inner=True)
def _ahead(tiles, tile):
    prefetch(tiles, tile)
    prefetch(tiles, tile + LINE)
    prefetch(tiles, tile + 2 * LINE)
    prefetch(tiles, tile + 3 * LINE)


@jit(inner=True)
def _exchange_six(array, place, inwards):
    if inwards:
        tile_load(0, array, place, LINE)
        tile_load(1, array, place + TILE, LINE)
        tile_load(2, array, place + 2 * TILE, LINE)
        tile_load(3, array, place + 3 * TILE, LINE)
        tile_load(4, array, place + 4 * TILE, LINE)
        tile_load(5, array, place + 5 * TILE, LINE)
    else:
        tile_store(0, array, place, LINE)
        tile_store(1, array, place + TILE, LINE)
        tile_store(2, array, place + 2 * TILE, LINE)
        tile_store(3, array, place + 3 * TILE, LINE)
        tile_store(4, array, place + 4 * TILE, LINE)
        tile_store(5, array, place + 5 * TILE, LINE)


@jit(inline="always")
def _two_by_two(lines, others, line, second, source, tiles, weights, offsets, first, last, band, output, other, sums,
                kept, scratch, into, table, waiting, y, result, largest):
    """Two tiles of positions, at `line` and `second`, by two blocks of outputs, `output` and `other`.

    The sums go to scratch[into]; meanwhile those that wait are written.
    """
    if band.block:
        _exchange_four(sums, kept, True)
    else:
        tile_zero(0)
        tile_zero(1)
        tile_zero(2)
        tile_zero(3)
    taps, size, done = len(offsets), 2 * TILE if source.below else TILE, 0
    each = max(2, min(8, 2 * LINE // max(1, band.blocks * (last - first))))
    for b in range(band.blocks):
        tile = weights + ((output * band.all_blocks + band.block + b) * taps + first) * size
        beside = tile + (other - output) * band.all_blocks * taps * size
        here = b < band.here
        largest = _four_taps(lines if here else others, line + b * source.block + (0 if here else band.shift),
                             second - line, band.step, source, tiles, tile, beside, offsets, first, last, scratch,
                             table, waiting, done, each, y, result, largest)
        done += each * (last - first)
    if band.block + band.blocks == band.all_blocks:
        largest = write_rest(scratch, table, waiting, done, y, result, largest)
        _exchange_four(scratch, into, False)
    else:
        _exchange_four(sums, kept, False)
    return largest


@jit(inline="always")
def _four_taps(lines, line, apart, step, source, tiles, tile, beside, offsets, first, last, scratch, table, waiting,
               done, each, y, result, largest):
    """The taps of one block of channels.  The tiles of positions are `apart` elements apart, their rows `step`.

    Memory and vectors work while the matrix unit does: where there are many taps, the lines are fetched that the last
    row of them reads at the next 32 positions; and `each` lines that wait are written, without the `done` first.
    """
    many, coming = last - first >= 8, line + 2 * apart + (offsets[last - 1] if last > first else 0)
    for t in range(first, last):
        if many:
            for k in range(4):
                prefetch(lines, coming + k * step)
                if source.below:
                    prefetch(lines, coming + source.below + k * step)
            coming += 4 * step
        if done < waiting.count:
            largest = write_lines(scratch, table, waiting, done, each, y, result, largest)
            fetch_lines(table, waiting, done, each, y, result)
            done += each
        if source.below:
            _twelve(lines, line + offsets[t], line + offsets[t] + source.below, apart, step, tiles, tile, beside)
            tile += 2 * TILE
            beside += 2 * TILE
        else:
            _four(lines, line + offsets[t], apart, step, tiles, tile, beside)
            tile += TILE
            beside += TILE
    return largest


@jit(inner=True)
def _four(lines, line, apart, step, tiles, tile, beside):
    tile_load(4, lines, line, step)
    tile_load(6, tiles, tile, LINE)
    tile_dot(0, 4, 6)
    _ahead(tiles, tile + AHEAD)
    _ahead(tiles, tile + AHEAD + 4 * LINE)
    tile_load(7, tiles, beside, LINE)
    tile_dot(2, 4, 7)
    _ahead(tiles, tile + AHEAD + 8 * LINE)
    _ahead(tiles, tile + AHEAD + 12 * LINE)
    tile_load(5, lines, line + apart, step)
    tile_dot(1, 5, 6)
    _ahead(tiles, beside + AHEAD)
    _ahead(tiles, beside + AHEAD + 4 * LINE)
    tile_dot(3, 5, 7)
    _ahead(tiles, beside + AHEAD + 8 * LINE)
    _ahead(tiles, beside + AHEAD + 12 * LINE)


@jit(inner=True)
def _twelve(lines, line, lower, apart, step, tiles, tile, beside):
    """upper · lower, upper · upper, lower · upper: each accumulator rests for three products after one of its own."""
    tile_load(4, lines, line, step)
    tile_load(6, tiles, tile + TILE, LINE)
    tile_dot(0, 4, 6)
    _ahead(tiles, tile + AHEAD)
    _ahead(tiles, beside + AHEAD)
    tile_load(7, tiles, beside + TILE, LINE)
    tile_dot(2, 4, 7)
    _ahead(tiles, tile + AHEAD + 4 * LINE)
    _ahead(tiles, beside + AHEAD + 4 * LINE)
    tile_load(5, lines, line + apart, step)
    tile_dot(1, 5, 6)
    _ahead(tiles, tile + AHEAD + 8 * LINE)
    _ahead(tiles, beside + AHEAD + 8 * LINE)
    tile_dot(3, 5, 7)
    _ahead(tiles, tile + AHEAD + 12 * LINE)
    _ahead(tiles, beside + AHEAD + 12 * LINE)
    tile_load(6, tiles, tile, LINE)
    tile_dot(0, 4, 6)
    _ahead(tiles, tile + AHEAD + 16 * LINE)
    _ahead(tiles, beside + AHEAD + 16 * LINE)
    tile_load(7, tiles, beside, LINE)
    tile_dot(2, 4, 7)
    _ahead(tiles, tile + AHEAD + 20 * LINE)
    _ahead(tiles, beside + AHEAD + 20 * LINE)
    tile_dot(1, 5, 6)
    _ahead(tiles, tile + AHEAD + 24 * LINE)
    _ahead(tiles, beside + AHEAD + 24 * LINE)
    tile_dot(3, 5, 7)
    _ahead(tiles, tile + AHEAD + 28 * LINE)
    _ahead(tiles, beside + AHEAD + 28 * LINE)
    tile_load(4, lines, lower, step)
    tile_dot(0, 4, 6)
    tile_dot(2, 4, 7)
    tile_load(5, lines, lower + apart, step)
    tile_dot(1, 5, 6)
    tile_dot(3, 5, 7)


@jit(inner=True)
def _exchange_four(array, place, inwards):
    """Accumulators 0 and 1 are the two tiles of positions for one block of outputs, 2 and 3 for the other."""
    if inwards:
        tile_load(0, array, place, LINE)
        tile_load(1, array, place + TILE, LINE)
        tile_load(2, array, place + 2 * TILE, LINE)
        tile_load(3, array, place + 3 * TILE, LINE)
    else:
        tile_store(0, array, place, LINE)
        tile_store(1, array, place + TILE, LINE)
        tile_store(2, array, place + 2 * TILE, LINE)
        tile_store(3, array, place + 3 * TILE, LINE)
