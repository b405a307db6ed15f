"""What the matrix unit multiplies, brought into lines and tiles: rows of x or patches of them, and weights.

Arrays are flat; `matrix_unit_plan` says what lies where.
"""

from typing import NamedTuple

import numpy as np

from tinyseg.jit import jit
from tinyseg.kernels.cpu.matrix_unit_lines import LINE, pack_lines, pack_split_lines, pack_tile
from tinyseg.kernels.cpu.team import share
from tinyseg.kernels.cpu.vector import gather, load, magnitude, splat, store, store_part

__all__ = ["TILE", "Source", "Weights", "clear_rows", "copy_rows", "pack_patches", "pack_planes", "pack_rows",
           "pack_tiles"]

TILE = LINE * LINE                                   # elements
_BESIDE = 4                                          # blocks of 16 outputs that are packed side by side
_INPUTS = 9 * 32                                     # of each before the next


class Source(NamedTuple):
    """x, and where its rows go: lines of a `Layout`, in elements.

    stride, first, row_step    row i of a plane, for the positions from row p on, is x's row
                     stride·(p + first) + row_step·i + remainder
    pitch            from a row of a plane to the next
    block, below     to the next block of channels; to the lower halves, 0 where there are none
    planes, plane, lead    planes side by side in a row plane, their size, and what comes before their first row
    row_planes, columns, runs    see `Layout`
    """

    height: int
    width: int
    stride: int
    first: int
    row_step: int
    pitch: int
    block: int
    below: int
    planes: int
    plane: int
    lead: int
    row_planes: np.ndarray
    columns: np.ndarray
    runs: np.ndarray


class Weights(NamedTuple):
    """What becomes of a weight, for one group.

    blocks    for each 16 outputs a row: the first of `inputs` and how many, the first of `outputs`, where their tiles
              begin, and whether their weights lie side by side
    inputs    which weight belongs to an input, counted from an output's first; negative: zeros
    outputs   which weight is an output's first
    size      elements of all tiles
    """

    blocks: np.ndarray
    inputs: np.ndarray
    outputs: np.ndarray
    size: int


@jit
def pack_tiles(team, tiles, below, weight, groups, table, peaks):
    """Tiles of all blocks of all groups; the lower halves of numbers `below` elements later, unless that is 0.

    peaks    for each thread the largest magnitudes, raised to those of the weight
    """
    blocks = groups * len(table.blocks)
    some = max(1, min(_BESIDE, blocks // (4 * team.size)))
    share(team, -(-blocks // some), _pack_blocks, (some, tiles, below, weight, groups, table, peaks))


@jit(inner=True)
def _pack_blocks(item, member, some, tiles, below, weight, groups, table, peaks):
    """One tile for each 32 inputs, of some blocks side by side: their weights are near one another."""
    size, most, largest = 2 * TILE if below else TILE, 0, load(peaks, (member, 0))
    begin, end = item * some, min((item + 1) * some, groups * len(table.blocks))
    for block in range(begin, end):
        most = max(most, table.blocks[block % len(table.blocks), 1])
    for k in range(0, most, _INPUTS):
        for block in range(begin, end):
            group = block // len(table.blocks)
            first, count, output, place, together = table.blocks[block % len(table.blocks)]
            for n in range(k, min(k + _INPUTS, count), 32):
                largest = pack_tile(tiles, place + group * table.size + n // 32 * size, below, weight,
                                    group * (len(weight) // groups), table.outputs, output, together, table.inputs,
                                    first + n, largest)
    store(peaks, (member, 0), largest)


@jit(inner=True)
def pack_rows(lines, x, image, channels, block, blocks, row, count, source, scratch):
    """Blocks of 32 channels of the rows of x that `count` rows of a plane want.  Returns the largest magnitudes.

    channels    where each channel begins in the image
    """
    largest, below = splat(0), TILE if source.below else 0
    begin, end = _rows(source, row, count)
    consecutive = len(source.columns) == 1 and source.runs[0, 2] == 1
    for b in range(blocks):
        base, channel = b * source.block, 32 * (block + b)
        if source.width < LINE:
            largest = magnitude(largest, _pack_narrow(lines, base, x, image, channels, channel, row, count, source,
                                                      scratch))
            continue
        for h in range(begin, end):
            plane_row = _plane_row(source, h, row, count)
            if plane_row < 0:
                continue
            for column in range(0, source.width, LINE):
                w = min(column, source.width - LINE)                 # the last pixels come twice
                cell, place = image + h * source.width + w, source.columns[0, w]
                if consecutive and place >= 0 and source.columns[0, w + LINE - 1] >= 0:
                    largest = magnitude(largest, _pack(lines, base + LINE * (plane_row + place), source.below, x, cell,
                                                       channels, channel))
                    continue
                largest = magnitude(largest, _pack(scratch, 0, below, x, cell, channels, channel))
                for k in range(LINE):
                    _put(lines, base + LINE * plane_row, w + k, source, scratch, LINE * k, TILE)
    return largest


@jit(inner=True)
def _pack_narrow(lines, base, x, image, channels, channel, row, count, source, scratch):
    """One block of channels of rows that are less than a line of pixels: what is packed at once goes on in the next."""
    largest, below = splat(0), TILE if source.below else 0
    width, cells = source.width, source.height * source.width
    begin, end = _rows(source, row, count)
    for number in range(begin * width, end * width, LINE):
        cell = max(0, min(number, cells - LINE))
        largest = magnitude(largest, _pack(scratch, 0, below, x, image + cell, channels, channel))
        for k in range(LINE):
            h, w = (cell + k) // width, (cell + k) % width
            plane_row = _plane_row(source, h, row, count)
            if plane_row >= 0:
                _put(lines, base + LINE * plane_row, w, source, scratch, LINE * k, TILE)
    return largest


@jit(inner=True)
def copy_rows(lines, base, source, x, image, pitch, below, row, count):
    """The rows of x that `count` rows of a plane want: one block of channels, to lines[base] and on.

    x    lines too: pixel (h, w) at x[image + h·pitch + w·16], the lower halves `below` elements later
    """
    begin, end = _rows(source, row, count)
    for h in range(begin, end):
        plane_row = _plane_row(source, h, row, count)
        if plane_row >= 0:
            for w in range(source.width):
                _put(lines, base + LINE * plane_row, w, source, x, image + h * pitch + w * LINE, below)


@jit(inner=True)
def _put(lines, place, w, source, x, line, below):
    """The line of column w to each plane that has this column, in the rows at `place`."""
    for plane in range(len(source.columns)):
        column = source.columns[plane, w]
        if column >= 0:
            store(lines, place + LINE * column, load(x, line))
            if source.below:
                store(lines, place + LINE * column + source.below, load(x, line + below))


@jit(inner=True)
def _rows(source, row, count):
    """The first row of x that positions from row `row` on may want, and the last plus one."""
    begin = (row + source.first) * source.stride
    return max(0, begin), min(source.height, begin + count * source.row_step)


@jit(inner=True)
def _plane_row(source, h, row, count):
    """The line where row h of x begins, or -1."""
    beyond = h - (row + source.first) * source.stride
    plane, i = source.row_planes[beyond % source.row_step], beyond // source.row_step
    return plane + i * source.pitch if plane >= 0 and 0 <= i < count else -1


@jit(inner=True)
def _pack(lines, place, below, x, index, channels, channel):
    if below:
        return pack_split_lines(lines, place, below, x, index, channels, channel)
    return pack_lines(lines, place, x, index, channels, channel)


@jit(inner=True)
def clear_rows(lines, line, blocks, row, count, source):
    """Zeros where a plane's row is none of x.  A line has `line` elements."""
    for remainder in range(source.row_step):
        plane_row = source.row_planes[remainder]
        for i in range(count):
            h = (row + source.first) * source.stride + i * source.row_step + remainder
            if plane_row >= 0 and not 0 <= h < source.height:
                for b in range(blocks):
                    for plane in range(source.planes):
                        place = b * source.block + line * (plane_row + plane * source.plane + source.lead
                                                           + i * source.pitch)
                        for k in range(place, place + line * source.pitch):
                            lines[k] = 0
                        if source.below:
                            for k in range(place + source.below, place + source.below + line * source.pitch):
                                lines[k] = 0


@jit(inner=True)
def pack_planes(planes, x, image, channels, row, count, source):
    """As `pack_rows`, but numbers in place of lines, and channels in place of blocks."""
    begin, end = _rows(source, row, count)
    for c in range(len(channels)):
        for h in range(begin, end):
            plane_row, first = _plane_row(source, h, row, count), image + channels[c] + h * source.width
            if plane_row >= 0:
                for n in range(len(source.runs)):
                    column, place, step, pixels = (source.runs[n, 0], source.runs[n, 1], source.runs[n, 2],
                                                   source.runs[n, 3])
                    for k in range(0, pixels, LINE):
                        numbers = gather(x, first + column + k * step, step, pixels - k)
                        store_part(planes, c * source.block + plane_row + place + k, numbers, pixels - k)


@jit(inner=True)
def pack_patches(lines, block, below, blocks, planes, steps, positions):
    """Lines that hold, in place of channels, whatever numbers of the planes lie at `steps` from a position."""
    largest = splat(0)
    for b in range(blocks):
        for position in range(0, positions, LINE):
            place = b * block + LINE * position
            largest = magnitude(largest, _pack(lines, place, below, planes, position, steps, 32 * b))
    return largest
