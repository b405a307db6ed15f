"""A convolution on the matrix unit by bands of its rows, which threads take: packed first, or read where lines lie.

The rows of a dilated one may be dealt out like the teeth of combs, every d-th to the same: then taps find their rows in
the comb of their position, and none is packed twice.  A band is some neighbouring combs, or one of neighbouring rows.
"""

from typing import NamedTuple

import numpy as np

from tinyseg.jit import jit
from tinyseg.kernels.cpu import workspace
from tinyseg.kernels.cpu.matrix_unit_lines import LINE
from tinyseg.kernels.cpu.matrix_unit_pack import clear_rows, copy_rows, pack_patches, pack_planes, pack_rows
from tinyseg.kernels.cpu.matrix_unit_product import Band, multiply, rows_of
from tinyseg.kernels.cpu.matrix_unit_result import SCRATCH, STRETCH
from tinyseg.kernels.cpu.team import share
from tinyseg.kernels.cpu.vector import load, magnitude, splat, store

__all__ = ["Grid", "Memory", "Operand", "convolve_copied", "convolve_lines", "convolve_patches", "convolve_planes",
           "memory_of"]


class Grid(NamedTuple):
    """The positions of a correlation, and the bands.

    height, width   rows of positions, and positions in each
    rows, apart     of a comb, and from one to the next
    combs, comb     of a band, which come between one another, and elements from one to the next
    pitch           from a row of positions to the next
    step, row_step  see `Band`
    blocks, run     of channels: all, and how many are multiplied before others are packed
    lines           rows of a plane that a band of `rows` rows wants
    """

    height: int
    width: int
    rows: int
    apart: int
    combs: int
    comb: int
    pitch: int
    step: int
    row_step: int
    blocks: int
    run: int
    lines: int


class Operand(NamedTuple):
    """x, which is packed.

    flat       its memory
    first, image, block, pitch, below   for lines, see `Lie`; an image may also be a group of NCHW
    channels   for NCHW, where each begins in the image
    steps      for patches, which numbers of the planes make one up
    """

    flat: np.ndarray
    first: int
    image: int
    block: int
    pitch: int
    below: int
    channels: np.ndarray
    steps: np.ndarray


class Memory(NamedTuple):
    """Of each member of a team, along the first axis.

    lines, planes   what is packed, once it is `ready`: zero between rows
    sums            of positions while further channels are packed
    scratch, table  see `multiply`
    peaks           the largest magnitudes of x and of y
    """

    lines: np.ndarray
    planes: np.ndarray
    ready: np.ndarray
    sums: np.ndarray
    scratch: np.ndarray
    table: np.ndarray
    peaks: np.ndarray


def memory_of(members: int, lines: int, planes: int, sums: int) -> Memory:
    """For so many members; elements for each."""
    lines, planes, sums, scratch = (workspace.empty((members, -(-size // LINE) * LINE + LINE))
                                    for size in (lines, planes, sums, SCRATCH))
    return Memory(lines, planes, np.zeros(members, np.int64), sums, scratch,
                  workspace.empty((members, 2 * STRETCH), np.int64), np.zeros((members, 2, LINE), np.float32))


# ---- packed --------------------------------------------------------------------------------------------------------

@jit
def convolve_planes(team, bands, x, source, grid, parts, tiles, y, target, memory):
    """Fill y, so many bands of all images and groups: rows of an array NCHW become lines."""
    share(team, bands, _band_of_planes, (x, source, grid, parts, tiles, y, target, memory))


@jit
def convolve_copied(team, bands, x, source, grid, parts, tiles, y, target, memory):
    """Lines are copied to where taps can read them."""
    share(team, bands, _band_of_copies, (x, source, grid, parts, tiles, y, target, memory))


@jit
def convolve_patches(team, bands, x, source, plane_source, grid, parts, tiles, y, target, memory):
    """Few channels fill no line: what all taps of a position read becomes one.

    source, plane_source    of lines, and of the planes from which patches are taken
    """
    share(team, bands, _band_of_patches, (x, source, plane_source, grid, parts, tiles, y, target, memory))


@jit
def _band_of_planes(item, member, x, source, grid, parts, tiles, y, target, memory):
    image, row, combs = _place(item, grid)
    lines, scratch, largest = memory.lines[member], memory.scratch[member], load(memory.peaks, (member, 0, 0))
    _begin(lines, memory.ready, member)
    _clear(lines, row, combs, source, grid)
    for block in range(0, grid.blocks, grid.run):
        blocks = min(grid.run, grid.blocks - block)
        for k in range(combs):
            comb, wanted = lines[k * grid.comb:], _wanted(grid, row + k)
            largest = magnitude(largest, pack_rows(comb, x.flat, x.first + image * x.image, x.channels, block, blocks,
                                                   row + k, wanted, source, scratch))
        _multiply(lines, source, image, row, combs, block, blocks, grid, parts, tiles, y, target, memory, member)
    store(memory.peaks, (member, 0, 0), largest)


@jit
def _band_of_copies(item, member, x, source, grid, parts, tiles, y, target, memory):
    image, row, combs = _place(item, grid)
    lines = memory.lines[member]
    _begin(lines, memory.ready, member)
    _clear(lines, row, combs, source, grid)
    for block in range(0, grid.blocks, grid.run):
        blocks = min(grid.run, grid.blocks - block)
        for k in range(combs):
            comb, wanted = lines[k * grid.comb:], _wanted(grid, row + k)
            for b in range(blocks):
                copy_rows(comb, b * source.block, source, x.flat, x.first + image * x.image + (block + b) * x.block,
                          x.pitch, x.below, row + k, wanted)
        _multiply(lines, source, image, row, combs, block, blocks, grid, parts, tiles, y, target, memory, member)


@jit
def _band_of_patches(item, member, x, source, plane_source, grid, parts, tiles, y, target, memory):
    image, row, combs = _place(item, grid)
    planes, lines, wanted = memory.planes[member], memory.lines[member], _wanted(grid, row)
    _begin(planes, memory.ready, member)
    clear_rows(planes, 1, len(x.channels), row, wanted, plane_source)
    pack_planes(planes, x.flat, x.first + image * x.image, x.channels, row, wanted, plane_source)
    rows = rows_of(row, grid.rows, grid.apart, grid.height)
    largest = pack_patches(lines, source.block, source.below, grid.blocks, planes, x.steps, rows * grid.pitch)
    _multiply(lines, source, image, row, combs, 0, grid.blocks, grid, parts, tiles, y, target, memory, member)
    store(memory.peaks, (member, 0, 0), magnitude(load(memory.peaks, (member, 0, 0)), largest))


@jit
def _place(item, grid):
    """The image of a band, its first row, and how many combs it has."""
    side = min(grid.apart, grid.height)
    across = -(-side // grid.combs)
    bands = across * -(-grid.height // (grid.rows * grid.apart))
    down, first = item % bands // across, item % bands % across * grid.combs
    return item // bands, down * grid.rows * grid.apart + first, min(grid.combs, side - first)


@jit
def _wanted(grid, row):
    """Rows of a plane that a comb wants whose first row that is."""
    return grid.lines - grid.rows + rows_of(row, grid.rows, grid.apart, grid.height)


@jit
def _begin(own, ready, member):
    """Zeros to a member's memory when it is first used."""
    if ready[member] == 0:
        ready[member] = 1
        for k in range(0, len(own), LINE):
            store(own, k, splat(0))


@jit
def _clear(lines, row, combs, source, grid):
    """Zeros where rows of combs are none of x."""
    for k in range(combs):
        clear_rows(lines[k * grid.comb:], LINE, grid.run, row + k, _wanted(grid, row + k), source)


@jit(inline="always")
def _multiply(lines, source, image, row, combs, block, blocks, grid, parts, tiles, y, target, memory, member):
    band = Band(row, grid.rows, grid.apart, grid.height, combs, grid.comb, grid.width, grid.pitch, LINE,
                LINE * grid.pitch, block, blocks, blocks, 0, grid.blocks, 0)
    largest = multiply(lines, lines, source, tiles, image % len(target.bias) * parts.size, parts, memory.sums[member],
                       band, y, target, image, memory.scratch[member], memory.table[member],
                       load(memory.peaks, (member, 1, 0)))
    store(memory.peaks, (member, 1, 0), largest)


# ---- read where they lie -------------------------------------------------------------------------------------------

@jit
def convolve_lines(team, bands, lines, lie, others, other, blocks, source, grid, parts, tiles, y, target, memory):
    """Multiply those bands, numbered through the images, of two arrays of lines.

    bands        the first, and how many
    lie, other   where pixel (0, 0) of an image lies, and from one to the next
    blocks       of channels: how many came before, how many are in `lines`, and how many in `others`
    """
    share(team, bands[1], _band_of_lines,
          (bands[0], lines, lie, others, other, blocks, source, grid, parts, tiles, y, target, memory))


@jit
def _band_of_lines(item, member, first, lines, lie, others, other, blocks, source, grid, parts, tiles, y, target,
                   memory):
    image, row, combs = _place(first + item, grid)
    done, here, more = blocks
    start = lie[0] + image * lie[1] + row * grid.row_step
    shift = other[0] - lie[0] + image * (other[1] - lie[1]) - here * source.block
    band = Band(row, grid.rows, grid.apart, grid.height, combs, grid.comb, grid.width, grid.pitch, grid.step,
                grid.row_step, done, here + more, here, shift, grid.blocks, start)
    largest = multiply(lines, others, source, tiles, 0, parts, memory.sums[item % len(memory.sums)], band, y, target,
                       image, memory.scratch[member], memory.table[member], load(memory.peaks, (member, 1, 0)))
    store(memory.peaks, (member, 1, 0), largest)
