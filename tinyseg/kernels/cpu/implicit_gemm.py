"""Convolution as a matrix product whose right-hand side is never written as a whole.

    y[o, pixel]  =  Σ  weight[o, (channel, tap)] · x[channel, what the tap sees from the pixel]

The matrix of what the taps see is made in portions that stay in the cache: some (channel, tap) pairs of some pixels.
Each is multiplied by panels of the weight, tile by tile, and added to a part of the result that stays there, too.
A transposed convolution is the same in the phases of its output, see `implicit_gemm_plan`.

N batch, C/O channels in/out, H W, K_h K_w, G groups; all arrays float32.
"""

from typing import NamedTuple

import numpy as np

from tinyseg.arithmetic import ConvGeometry
from tinyseg.jit import jit
from tinyseg.kernels.cpu import workspace
from tinyseg.kernels.cpu.implicit_gemm_pack import number_pairs, pack_panels, pack_weight
from tinyseg.kernels.cpu.implicit_gemm_plan import Plan, filled_up, flattened, odd_pitch, plans_of
from tinyseg.kernels.cpu.implicit_gemm_tiles import multiply
from tinyseg.kernels.cpu.implicit_gemm_weight import conv2d_weight_grad
from tinyseg.kernels.cpu.team import share
from tinyseg.kernels.cpu.threads import team
from tinyseg.kernels.cpu.vector import (
    COLUMNS,
    LANES,
    ROWS,
    interleave,
    load,
    maximum,
    prefetch,
    scatter,
    splat,
    store,
    store_part,
    transpose_square,
)

__all__ = ["conv2d", "conv2d_input_grad", "conv2d_weight_grad"]

_LINES = 8                                           # rows that a thread packs at a time


def conv2d(x: np.ndarray, weight: np.ndarray, geometry: ConvGeometry, bias: np.ndarray | None = None,
           relu: bool = False) -> np.ndarray:
    """x (N, C, H, W), weight (O, C/G, K_h, K_w) -> (N, O, H', W')."""
    y = workspace.empty((len(x), len(weight), *geometry.output_size))
    _compute(x, weight, y, geometry, False, bias, relu)
    return y


def conv2d_input_grad(grad: np.ndarray, weight: np.ndarray, geometry: ConvGeometry, bias: np.ndarray | None = None,
                      relu: bool = False) -> np.ndarray:
    """The transpose of `conv2d` in x: grad (N, O, H', W'), weight (O, C/G, K_h, K_w) -> (N, C, H, W)."""
    x = workspace.empty((len(grad), weight.shape[1] * geometry.groups, *geometry.input_size))
    filled, whole = filled_up(geometry, weight)
    _compute(grad, whole, x, filled, True, bias, relu)
    if filled is not geometry and not np.isfinite(x).all():              # because of the zeros that fill it up?
        _compute(grad, weight, x, geometry, True, bias, relu)
    return x


def _compute(source, weight, result, geometry: ConvGeometry, transpose: bool, bias, relu: bool) -> None:
    """Fill the result of a convolution or of its transpose."""
    geometry, source, result = flattened(geometry, source, result)
    N, G, threads = len(source), geometry.groups, team()
    inputs, outputs = source.shape[1] // G, result.shape[1] // G         # channels of a group
    step, cell = ((1, 1), geometry.stride) if transpose else (geometry.stride, (1, 1))
    bias = np.zeros(outputs * G, np.float32) if bias is None else np.ascontiguousarray(bias, np.float32)
    floor = np.float32(0 if relu else -np.inf)
    for plan in plans_of(geometry, transpose, inputs, outputs, N * G, threads.size):
        _multiply(threads, plan, source, weight.reshape(G, -1), step, cell, result, bias, floor,
                  workspace.empty((G, plan.size)), _scratch(plan, threads.size))


class _Scratch(NamedTuple):
    """Memory of each thread for a job."""

    b: np.ndarray                                    # packed pixels
    c: np.ndarray                                    # the job's part of the result
    lines: np.ndarray                                # rows of packed pixels
    runs: np.ndarray                                 # where pixels lie in x
    order: np.ndarray                                # which weight belongs to each row of b


def _scratch(plan: Plan, threads: int) -> _Scratch:
    rows, width, pixels, depth = plan.scratch
    return _Scratch(workspace.empty((threads, (pixels + COLUMNS * LANES) * depth)),
                    workspace.empty((threads, rows, width)),
                    workspace.empty((threads, _LINES, odd_pitch(pixels + LANES))),
                    np.empty((threads, pixels + 1, 3), np.int64), np.empty((threads, depth), np.int64))


@jit
def _multiply(team, plan, source, weight, step, cell, result, bias, floor, a, scratch):
    """Follow a `Plan`: source (N, G·C, H, W), weight (G, .) -> some lines of result (N, G·O, H', W').

    Threads share first the packing of the weight to a (G, panels), then lines and pixels of the result.
    """
    share(team, len(plan.packing) * len(a), _pack, (plan, weight, a))
    share(team, len(source) * len(a) * len(plan.jobs), _fill,
          (plan, source, a, step, cell, result, bias, floor, scratch))


@jit
def _pack(item, member, plan, weight, a):
    """Some panels of a group's weight."""
    part, group = plan.packing[item // len(a)], item % len(a)
    pack_weight(weight[group], plan.rows[part[0]:part[1]], plan.shifts[part[2]:part[3]], part[4], part[5], a[group])


@jit
def _fill(item, member, plan, source, a, step, cell, result, bias, floor, scratch):
    """One job for one group of an image."""
    job, group, n = plan.jobs[item % len(plan.jobs)], item // len(plan.jobs) % len(a), item // len(plan.jobs) // len(a)
    inputs, outputs = source.shape[1] // len(a), result.shape[1] // len(a)
    x, out = source[n, group * inputs:(group + 1) * inputs], result[n, group * outputs:(group + 1) * outputs]
    panels, shift = a[group], bias[group * outputs:(group + 1) * outputs]
    families, segments, slices, ranges = plan.families, plan.segments, plan.slices, plan.ranges
    b, c, lines, runs, order = (scratch.b[member], scratch.c[member], scratch.lines[member], scratch.runs[member],
                                scratch.order[member])
    first_line, last_line, first, last = job[0], job[1], job[2], job[3]
    column = 0
    for i in range(first, last):
        width, region = segments[i, 2], segments[i, 5]
        for f in range(len(families)):
            height, row, pitch = (last_line - first_line) * families[f, 0], families[f, 1], families[f, 4]
            panel = families[f, 3] + first_line * families[f, 0] // ROWS * pitch
            if ranges[region, f, 0] == ranges[region, f, 1]:             # no tap reaches these phases
                _clear(c, row, height, column, width)
            for s in range(ranges[region, f, 0], ranges[region, f, 1]):
                channels, start, stop = (slices[s, 0], slices[s, 1]), slices[s, 2], slices[s, 3]
                depth = pack_panels(x, channels, plan.taps, start, stop, step, segments, i, runs, lines, b)
                number_pairs(channels, plan.taps, start, stop, families[f, 2], 0, order)
                multiply(panels, panel, pitch, order, depth, b, width, c, row, height, column,
                         s == ranges[region, f, 0])
        column += _padded(width)
    for row in range(last_line - first_line):
        _store(c, plan, first, last, first_line + row, row, cell, out, shift, floor)


@jit
def _padded(count):
    return (count + LANES - 1) // LANES * LANES


@jit
def _clear(c, row, height, column, width):
    for i in range(row, row + (height + ROWS - 1) // ROWS * ROWS):
        for j in range(column, column + width, LANES):
            store(c, (i, j), splat(0))


@jit
def _store(c, plan, first, last, line, row, cell, out, bias, floor):
    """Add the bias to a line of a job's part of the result, cut it off below the floor, and bring it to its place.

    All segments of one line follow one another: where they share rows of the result, these are near then.
    """
    segments, start = plan.segments, 0
    channel, phase = line // len(plan.phases), plan.phases[line % len(plan.phases)]
    for i in range(first, last):
        left, width, count, p, q = segments[i, 0], segments[i, 1], segments[i, 2], segments[i, 3], segments[i, 4]
        j = 0
        while j < count:
            n = min(left + width - q, count - j)                         # pixels left in this row
            if cell == (1, 1) and width == out.shape[2]:
                n = count                                                # in out the pixels lie one after the other
            if p * cell[0] + phase < out.shape[1]:
                place = channel, p * cell[0] + phase, q * cell[1]
                if cell[1] == 1:
                    _store_pixels(c, row, start + j, n, bias[channel], floor, out, place)
                else:
                    _store_cells(c, plan.columns, row, start + j, n, cell[1], bias[channel], floor, out, place)
            j, p, q = j + n, p + 1, left
        start += _padded(count)


@jit
def _store_pixels(c, row, j, count, bias, floor, out, place):
    """c[row, j:j + count] to out[place] and what follows."""
    channel, h, w = place
    i = 0
    while i + LANES <= count:
        prefetch(out, (channel + 1, h, w + i))       # the next line of the job is written there
        store(out, (channel, h, w + i), maximum(splat(floor), load(c, (row, j + i)) + bias))
        i += LANES
    if i < count:
        store_part(out, (channel, h, w + i), maximum(splat(floor), load(c, (row, j + i)) + bias), count - i)


@jit
def _store_cells(c, columns, line, j, count, cell, bias, floor, out, place):
    """`count` pixels of all phases to out[place] and what follows: `cell` columns for each pixel."""
    (channel, h, w), W = place, out.shape[2]
    if cell == 2 and len(columns) == 2:
        even, odd = _row_of(columns, line, 0), _row_of(columns, line, 1)
        for i in range(0, count, LANES):
            one = maximum(splat(floor), load(c, (even, j + i)) + bias)
            two = maximum(splat(floor), load(c, (odd, j + i)) + bias)
            both = interleave((one, two))
            room = min(2 * (count - i), W - w - 2 * i)
            store_part(out, (channel, h, w + 2 * i), both[0], room)
            store_part(out, (channel, h, w + 2 * i + LANES), both[1], room - LANES)
        return
    phase = 0
    while phase < len(columns):
        row, together, done = _row_of(columns, line, phase), 1, 0
        if phase + LANES <= len(columns) and _row_of(columns, line, phase + LANES - 1) == row + LANES - 1:
            together = LANES                         # as many phases as pixels: a square to turn over
            done = max(0, min(count, (W - w - phase - LANES) // cell + 1)) // LANES * LANES
            for i in range(0, done, LANES):
                _store_square(c, row, j + i, cell, bias, floor, out, (channel, h, w + i * cell + phase))
        for k in range(together):
            room = min(count, (W - w - phase - k + cell - 1) // cell)
            for i in range(done, room, LANES):
                scatter(out, (channel, h, w + i * cell + phase + k), cell,
                        maximum(splat(floor), load(c, (row + k, j + i)) + bias), room - i)
        phase += together


@jit
def _store_square(c, row, j, cell, bias, floor, out, place):
    """LANES pixels of LANES phases, which lie side by side in out."""
    transpose_square(c, (row, j), c.shape[1], out, place, cell)
    if bias != 0 or floor == 0:
        channel, h, w = place
        for k in range(LANES):
            at = channel, h, w + k * cell
            store(out, at, maximum(splat(floor), load(out, at) + bias))


@jit
def _row_of(columns, line, phase):
    """The row of a job's part of the result that holds a phase of one of its lines."""
    return columns[phase, 1] + line * columns[phase, 0] + columns[phase, 2]
