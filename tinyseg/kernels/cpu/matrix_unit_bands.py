"""A convolution on the matrix unit by bands of its rows, which threads take: packed first, or read where lines lie."""

from typing import NamedTuple

import numpy as np

from tinyseg.jit import jit
from tinyseg.kernels.cpu import workspace
from tinyseg.kernels.cpu.matrix_unit_lines import LINE
from tinyseg.kernels.cpu.matrix_unit_pack import clear_rows, copy_rows, pack_patches, pack_planes, pack_rows
from tinyseg.kernels.cpu.matrix_unit_product import SCRATCH, Band, multiply
from tinyseg.kernels.cpu.team import share
from tinyseg.kernels.cpu.vector import load, magnitude, splat, store

__all__ = ["COPIED", "PATCHES", "PLANES", "Grid", "Memory", "Operand", "convolve_lines", "convolve_packed", "memory_of"]

PLANES, PATCHES, COPIED = range(3)                   # see `Operand`


class Grid(NamedTuple):
    """The positions of a correlation, and the bands.

    height, width   rows of positions, and positions in each
    rows            of a band
    pitch           from a row of positions to the next
    step, row_step  see `Band`
    blocks, run     of channels: all, and how many are multiplied before others are packed
    lines           rows of a plane that a band of `rows` rows wants
    """

    height: int
    width: int
    rows: int
    pitch: int
    step: int
    row_step: int
    blocks: int
    run: int
    lines: int


class Operand(NamedTuple):
    """x, which is packed.

    form       PLANES or PATCHES: an array NCHW, packed row by row, or patch by patch where few channels fill no line;
               COPIED: lines, which are copied to where taps can read them
    flat       its memory
    first, image, block, pitch, below   for lines, see `Lie`; an image may also be a group of NCHW
    channels   for NCHW, where each begins in the image
    steps      for PATCHES, which numbers make one up
    """

    form: int
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
    scratch         see `multiply`
    peaks           the largest magnitudes of x and of y
    """

    lines: np.ndarray
    planes: np.ndarray
    ready: np.ndarray
    sums: np.ndarray
    scratch: np.ndarray
    peaks: np.ndarray


def memory_of(members: int, lines: int, planes: int, sums: int) -> Memory:
    """For so many members; elements for each."""
    lines, planes, sums, scratch = (workspace.empty((members, -(-size // LINE) * LINE + LINE))
                                    for size in (lines, planes, sums, SCRATCH))
    return Memory(lines, planes, np.zeros(members, np.int64), sums, scratch, np.zeros((members, 2, LINE), np.float32))


# ---- packed --------------------------------------------------------------------------------------------------------

@jit
def convolve_packed(team, images, x, source, plane_source, grid, parts, tiles, y, target, memory):
    """Fill y, `images` images or groups of them.

    source, plane_source    where rows of x go, as lines and as numbers
    """
    bands = -(-grid.height // grid.rows)
    share(team, images * bands, _packed_band,
          (bands, x, source, plane_source, grid, parts, tiles, y, target, memory))


@jit
def _packed_band(item, member, bands, x, source, plane_source, grid, parts, tiles, y, target, memory):
    image, row = item // bands, item % bands * grid.rows
    rows, groups = min(grid.rows, grid.height - row), len(target.bias)
    wanted, start = grid.lines - grid.rows + rows, x.first + image * x.image
    lines, planes, scratch = memory.lines[member], memory.planes[member], memory.scratch[member]
    largest_x, largest_y = load(memory.peaks, (member, 0, 0)), load(memory.peaks, (member, 1, 0))
    if memory.ready[member] == 0:
        memory.ready[member] = 1
        _clear(planes if x.form == PATCHES else lines)

    if x.form == PATCHES:
        channels = len(x.channels)
        clear_rows(planes, 1, channels, row, wanted, plane_source)
        pack_planes(planes, x.flat, start, x.channels, row, wanted, plane_source)
        largest = pack_patches(lines, source.block, source.below, grid.blocks, planes, x.steps, rows * grid.pitch)
        largest_x = magnitude(largest_x, largest)
    else:
        clear_rows(lines, LINE, grid.run, row, wanted, source)
    for block in range(0, grid.blocks, grid.run):
        blocks = min(grid.run, grid.blocks - block)
        if x.form == PLANES:
            largest = pack_rows(lines, x.flat, start, x.channels, block, blocks, row, wanted, source, scratch)
            largest_x = magnitude(largest_x, largest)
        elif x.form == COPIED:
            for b in range(blocks):
                copy_rows(lines, b * source.block, source, x.flat, start + (block + b) * x.block, x.pitch, x.below, row,
                          wanted)
        band = Band(row, rows, grid.width, grid.pitch, LINE, 0, block, blocks, blocks, 0, grid.blocks, 0)
        largest_y = multiply(lines, lines, source, tiles, image % groups * parts.size, parts, memory.sums[member], band,
                             y, target, image, scratch, largest_y)
    store(memory.peaks, (member, 0, 0), largest_x)
    store(memory.peaks, (member, 1, 0), largest_y)


@jit
def _clear(memory):
    for k in range(0, len(memory), LINE):
        store(memory, k, splat(0))


# ---- read where they lie -------------------------------------------------------------------------------------------

@jit
def convolve_lines(team, bands, lines, lie, others, other, blocks, source, grid, parts, tiles, sums, y, target, memory):
    """Multiply those bands, numbered through the images, of two arrays of lines.

    bands        the first, and how many
    lie, other   where pixel (0, 0) of an image lies, and from one to the next
    blocks       of channels: how many came before, how many are in `lines`, and how many in `others`
    sums         of each of these bands while there are further channels
    """
    share(team, bands[1], _band_of_lines,
          (bands[0], lines, lie, others, other, blocks, source, grid, parts, tiles, sums, y, target, memory))


@jit
def _band_of_lines(item, member, first, lines, lie, others, other, blocks, source, grid, parts, tiles, sums, y, target,
                   memory):
    bands = -(-grid.height // grid.rows)
    image, row = (first + item) // bands, (first + item) % bands * grid.rows
    done, here, more = blocks
    start = lie[0] + image * lie[1] + row * grid.row_step
    shift = other[0] - lie[0] + image * (other[1] - lie[1]) - here * source.block
    band = Band(row, min(grid.rows, grid.height - row), grid.width, grid.pitch, grid.step, grid.row_step, done,
                here + more, here, shift, grid.blocks, start)
    largest = multiply(lines, others, source, tiles, 0, parts, sums[item % len(sums)], band, y, target, image,
                       memory.scratch[member], load(memory.peaks, (member, 1, 0)))
    store(memory.peaks, (member, 1, 0), largest)
