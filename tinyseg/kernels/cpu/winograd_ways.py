"""How threads share a Winograd convolution: which loop follows which, and what is one turn of each.

Each way is a kernel that shares some loops, and takes the kernels of their turns as its first arguments; a turn is
called with its number and the number of the thread.  `winograd2` and `winograd4` make kernels of both, for sizes that
the compiler then knows.  Which memory a way needs is told in `winograd`.
"""

from typing import NamedTuple

import numpy as np

from tinyseg.jit import jit
from tinyseg.kernels.cpu.team import share
from tinyseg.kernels.cpu.vector import LANES, ROWS
from tinyseg.kernels.cpu.winograd_kernels import (
    collect_filters,
    invert,
    multiply,
    transform_by_channels,
    transform_filters,
    transform_tiles,
)

__all__ = ["BLOCK", "Convolution", "Filters", "Memory", "Sum", "SumMemory", "collect_turn", "convolve_by_filters",
           "convolve_by_tiles", "convolve_filters_turn", "convolve_tiles_turn", "sum_by_points", "sum_by_tiles",
           "sum_tiles_turn", "transform_channels_turn", "transform_filters_turn", "transform_tiles_turn"]

BLOCK = 4 * ROWS                                     # rows of products between two transforms
_CHANNELS = 2 * LANES                                # transformed in a turn
_POINTS = 3                                          # multiplied in a turn


class Filters(NamedTuple):
    """rows x depth filters of 3x3 taps; `taps` says where, see `winograd_kernels.transform_filters`."""

    weight: np.ndarray                               # flat
    rows: int
    depth: int
    taps: tuple[int, int, int, int]


class Convolution(NamedTuple):
    """y from x (N, C, H, W): `grid` = (down, across) tiles of each image, `tiles` of all."""

    x: np.ndarray
    near: tuple[int, int]                            # padding before
    grid: tuple[int, int]
    tiles: int
    filters: Filters
    bias: np.ndarray
    relu: bool
    y: np.ndarray


class Memory(NamedTuple):
    """What a convolution needs.  Where threads do not share an array, its first axis has an entry for each."""

    scratch: np.ndarray
    U: np.ndarray
    V: np.ndarray
    M: np.ndarray
    largest: np.ndarray                              # (threads, LANES) magnitudes in y


class Sum(NamedTuple):
    """The gradient of the weight (O, C, 3, 3), from x (N, C, H, W) and that of y."""

    x: np.ndarray
    near: tuple[int, int]
    grad: np.ndarray
    grid: tuple[int, int]
    tiles: int
    weight: np.ndarray


class SumMemory(NamedTuple):
    """What it needs."""

    scratch: np.ndarray
    pixels: np.ndarray
    V: np.ndarray
    D: np.ndarray
    dU: np.ndarray                                   # (parts, n·n, > outputs, >= channels)
    largest: np.ndarray                              # (threads, LANES) magnitudes in the weight


@jit
def _part(number, size, first, last):
    """The range of part `number` where first .. last - 1 fall into parts of some size."""
    return first + number * size, min(first + (number + 1) * size, last)


@jit
def _parts(first, last, size):
    """How many there are."""
    return (last - first + size - 1) // size


# ---- a convolution -------------------------------------------------------------------------------------------------

@jit(inline="always")
def convolve_by_tiles(filters_turn, tiles_turn, team, task, size, memory):
    """All filters are transformed, then each thread takes blocks of `size` tiles.

    U (blocks, n·n, > C, BLOCK); V (threads, n·n, > C, >= size), M (threads, n·n, > BLOCK, >= size)
    """
    share(team, len(memory.U), filters_turn, (task.filters, memory.scratch, memory.U))
    share(team, _parts(0, task.tiles, size), tiles_turn, (task, size, memory))


@jit(inline="always")
def transform_filters_turn(n, transform, number, member, filters, scratch, U):
    """One block of rows."""
    transform_filters(n, transform, _part(number, BLOCK, 0, filters.rows), (0, filters.depth), filters.weight,
                      filters.taps, scratch[member], U[number])


@jit(inline="always")
def convolve_tiles_turn(m, n, input_transform, output_transform, number, member, task, size, memory):
    """All of y for one block of tiles."""
    tiles, depth, grid = _part(number, size, 0, task.tiles), task.filters.depth, task.grid
    scratch, V, M = memory.scratch[member], memory.V[member], memory.M[member]
    transform_tiles(m, n, input_transform, (0, depth), tiles, task.x, task.near, grid, scratch, V)
    for b in range(len(memory.U)):
        rows = _part(b, BLOCK, 0, task.filters.rows)
        multiply((0, rows[1] - rows[0]), (0, tiles[1] - tiles[0]), (0, depth), 0, depth, memory.U[b], V, M, False)
        invert(m, n, output_transform, rows, tiles, grid, M, task.y, task.bias, task.relu, scratch,
               memory.largest[member])


@jit(inline="always")
def convolve_by_filters(tiles_turn, filters_turn, team, task, size, run, memory):
    """All of `size` tiles at a time are transformed, then each thread takes blocks of filters.

    U (threads, n·n, > part of C, BLOCK) and M (threads, n·n, > BLOCK, >= run) have room for a part of the depth, and
    for a run of tiles; V (n·n, > C, >= size)
    """
    depth = (task.filters.depth + team.size - 1) // team.size
    for t in range(0, task.tiles, size):
        group = t, min(t + size, task.tiles)
        share(team, _parts(0, task.filters.depth, depth), tiles_turn, (task, group, depth, memory))
        share(team, _parts(0, task.filters.rows, BLOCK), filters_turn, (task, group, run, memory))


@jit(inline="always")
def transform_tiles_turn(m, n, transform, number, member, task, tiles, depth, memory):
    """`depth` channels of all these tiles."""
    transform_tiles(m, n, transform, _part(number, depth, 0, task.filters.depth), tiles, task.x, task.near, task.grid,
                    memory.scratch[member], memory.V)


@jit(inline="always")
def convolve_filters_turn(m, n, filter_transform, output_transform, number, member, task, tiles, run, memory):
    """One block of the rows of y for these tiles."""
    rows, filters = _part(number, BLOCK, 0, task.filters.rows), task.filters
    scratch, U, M = memory.scratch[member], memory.U[member], memory.M[member]
    part = U.shape[1] - 1
    for t in range(tiles[0], tiles[1], run):
        block = t, min(t + run, tiles[1])
        for k in range(0, filters.depth, part):
            inner = k, min(k + part, filters.depth)
            if t == tiles[0] or part < filters.depth:
                transform_filters(n, filter_transform, rows, inner, filters.weight, filters.taps, scratch, U)
            multiply((0, rows[1] - rows[0]), (t - tiles[0], block[1] - tiles[0]), inner, k, part, U, memory.V, M, k > 0)
        invert(m, n, output_transform, rows, block, task.grid, M, task.y, task.bias, task.relu, scratch,
               memory.largest[member])


# ---- the gradient of the weight ------------------------------------------------------------------------------------

@jit(inline="always")
def sum_by_tiles(tiles_turn, collect_turn, team, task, size, chain, memory):
    """Parts of `size` tiles have a dU each, and V and D only for `chain` tiles.

    V (threads, n·n, > chain, > C), D (threads, n·n, > chain, > O)
    """
    share(team, len(memory.dU), tiles_turn, (task, size, chain, memory))
    _collect(collect_turn, team, task, (0, len(task.weight)), memory)


@jit(inline="always")
def sum_tiles_turn(m, n, input_transform, grad_transform, number, member, task, size, chain, memory):
    """dU[number, p] = Σ_t D[p, t]ᵀ V[p, t] over one part of the tiles, `chain` of them at a time."""
    channels, outputs, tiles = task.x.shape[1], task.grad.shape[1], _part(number, size, 0, task.tiles)
    scratch, pixels, V, D = memory.scratch[member], memory.pixels[member], memory.V[member], memory.D[member]
    for t in range(tiles[0], tiles[1], chain):
        block = t, min(t + chain, tiles[1])
        transform_by_channels(m, n, n, input_transform, (0, channels), block, task.x, task.near, task.grid, scratch,
                              pixels, V)
        transform_by_channels(m, n, m, grad_transform, (0, outputs), block, task.grad, (0, 0), task.grid, scratch,
                              pixels, D)
        multiply((0, outputs), (0, channels), (0, block[1] - t), 0, chain, D, V, memory.dU[number], t > tiles[0])


@jit(inline="always")
def sum_by_points(channels_turn, collect_turn, team, task, rows, size, chain, memory):
    """V and D of `size` tiles at a time are made, then threads take points; for `rows` outputs at a time.

    V (n·n, > size, > C), D (n·n, > size, > O); dU has one part
    """
    outputs, channels = task.grad.shape[1], task.x.shape[1]
    for o in range(0, outputs, rows):
        part = o, min(o + rows, outputs)
        for t in range(0, task.tiles, size):
            group, blocks = (t, min(t + size, task.tiles)), _parts(part[0], part[1], _CHANNELS)
            if o == 0 or size < task.tiles:          # else V is still there
                blocks += _parts(0, channels, _CHANNELS)
            share(team, blocks, channels_turn, (task, part, group, memory))
            share(team, _parts(0, memory.dU.shape[1], _POINTS), _multiply_turn,
                  (part, channels, group, chain, memory.D, memory.V, memory.dU))
        _collect(collect_turn, team, task, part, memory)


@jit(inline="always")
def transform_channels_turn(m, n, input_transform, grad_transform, number, member, task, outputs, tiles, memory):
    """D for some channels of the gradient, or, once those are done, V for some of x."""
    scratch, pixels, blocks = memory.scratch[member], memory.pixels[member], _parts(outputs[0], outputs[1], _CHANNELS)
    if number < blocks:
        transform_by_channels(m, n, m, grad_transform, _part(number, _CHANNELS, outputs[0], outputs[1]), tiles,
                              task.grad, (0, 0), task.grid, scratch, pixels, memory.D)
    else:
        transform_by_channels(m, n, n, input_transform, _part(number - blocks, _CHANNELS, 0, task.x.shape[1]), tiles,
                              task.x, task.near, task.grid, scratch, pixels, memory.V)


@jit
def _multiply_turn(number, member, outputs, channels, tiles, chain, D, V, dU):
    """Some points."""
    p, last = _part(number, _POINTS, 0, dU.shape[1])
    multiply(outputs, (0, channels), (0, tiles[1] - tiles[0]), 0, chain, D[p:last], V[p:last], dU[0, p:last],
             tiles[0] > 0)


@jit(inline="always")
def _collect(collect_turn, team, task, outputs, memory):
    """Filters from the sums of all parts; threads share the rows."""
    share(team, _parts(outputs[0], outputs[1], BLOCK), collect_turn,
          (outputs, memory.dU, memory.scratch, task.weight, memory.largest))


@jit(inline="always")
def collect_turn(n, transform, number, member, outputs, dU, scratch, weight, largest):
    """One block of rows."""
    collect_filters(n, transform, _part(number, BLOCK, outputs[0], outputs[1]), outputs[0], dU, scratch[member], weight,
                    largest[member])
