"""The weight gradient as a matrix product over pixels, without the matrix of what the taps see as a whole.

    dw[(channel, tap), o]  =  Σ  x[channel, what the tap sees from the pixel] · grad[o, pixel]

Some pixels at a time: what the taps see there is packed row by row, as for the convolution itself, the gradient is
transposed, and their product is added to a block of the result that stays in the cache.
"""

from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from tinyseg.arithmetic import ConvGeometry
from tinyseg.jit import jit
from tinyseg.kernels.cpu import workspace
from tinyseg.kernels.cpu.implicit_gemm_pack import number_pairs, pack_pixels
from tinyseg.kernels.cpu.implicit_gemm_plan import (
    flattened,
    forward,
    odd_pitch,
    regions_of,
    round_up,
    segments_of,
    slices_of,
    table,
    taps_of,
)
from tinyseg.kernels.cpu.implicit_gemm_tiles import multiply_transposed, tile_columns
from tinyseg.kernels.cpu.team import share
from tinyseg.kernels.cpu.threads import team
from tinyseg.kernels.cpu.vector import COLUMNS, LANES, ROWS, load, splat, store, transpose_square

__all__ = ["conv2d_weight_grad"]

_PIXELS = 192                                        # packed at a time
_OUTPUTS = 256                                       # output channels of a block
_BLOCK = 256 << 10                                   # numbers of a block, which stays in the L2 cache


class _Plan(NamedTuple):
    """Which part of the result each job computes, from which pixels."""

    slices: np.ndarray                               # (S, 5) c0, c1, t0, t1, (channel, tap) pairs before it
    segments: np.ndarray                             # as in `Plan`
    taps: np.ndarray
    itself: np.ndarray                               # a tap that sees the pixel
    ranges: np.ndarray
    blocks: np.ndarray                               # (., 4) outputs first, last; slices first, last
    shares: np.ndarray                               # (., 2) runs of (image, segment) pairs, for one job each
    depth: int                                       # the most (channel, tap) pairs of a slice
    shape: tuple[int, int]                           # of the largest block


def conv2d_weight_grad(grad: np.ndarray, x: np.ndarray, geometry: ConvGeometry) -> np.ndarray:
    """grad (N, O, H', W'), x (N, C, H, W) -> (O, C/G, K_h, K_w)."""
    groups, outputs, channels, threads = geometry.groups, grad.shape[1], x.shape[1], team()
    weight = workspace.empty((outputs, channels // groups, *geometry.kernel_size))
    result = weight.reshape(groups, outputs // groups, -1)
    geometry, grad, x = flattened(geometry, grad, x)
    plan = _plan(geometry, channels // groups, outputs // groups, len(x), groups, threads.size)
    parts = len(plan.shares) * groups * len(plan.blocks) if len(plan.shares) > 1 else threads.size
    _multiply(threads, plan, grad, x, geometry.taps, geometry.stride, workspace.empty((parts, *plan.shape)),
              _scratch(plan, threads.size), result)
    return weight


class _Scratch(NamedTuple):
    """Memory of each thread for a job."""

    b: np.ndarray                                    # what the taps see
    runs: np.ndarray                                 # where pixels lie
    order: np.ndarray                                # the row of the total that belongs to each row of b
    lines: np.ndarray                                # LANES channels of the gradient
    pixels: np.ndarray                               # the gradient, transposed
    tile: np.ndarray                                 # a tile of the product
    square: np.ndarray                               # a part of the result


def _scratch(plan: _Plan, threads: int) -> _Scratch:
    line, panel = odd_pitch(_PIXELS + LANES), plan.shape[1] + COLUMNS * LANES
    return _Scratch(workspace.empty((threads, plan.depth + ROWS, line)),
                    np.empty((threads, _PIXELS + 1, 3), np.int64), np.empty((threads, plan.depth), np.int64),
                    workspace.empty((threads, LANES, line)), workspace.empty((threads, (_PIXELS + LANES) * panel)),
                    workspace.empty((threads, ROWS, COLUMNS * LANES)), workspace.empty((threads, LANES, LANES)))


@lru_cache(maxsize=512)
def _plan(geometry: ConvGeometry, channels: int, outputs: int, images: int, groups: int, threads: int) -> _Plan:
    axes = forward(geometry, 0), forward(geometry, 1)
    domain = geometry.input_size, geometry.stride, geometry.output_size
    regions = regions_of(axes[0][0], axes[1], *domain)
    segments = segments_of(regions, _PIXELS)
    taps, ranges = taps_of(regions, axes[0][0], axes[1], *domain[:2])

    slices = [(c0, c1, t0, t1, c0 * geometry.taps + t0) for c0, c1, t0, t1 in slices_of(channels, geometry.taps)]
    depth = max((c1 - c0) * (t1 - t0) for c0, c1, t0, t1, _ in slices)
    width = round_up(-(-outputs // -(-outputs // _OUTPUTS)), LANES)
    together = max(1, _BLOCK // (width * depth))     # slices of a block
    down, across = -(-len(slices) // together), -(-outputs // width) * groups
    while down < len(slices) and down * across < 4 * threads and down * across % threads:
        down += 1                                    # an even share for every thread
    together = -(-len(slices) // down)
    blocks = [(o, min(o + width, outputs), s, min(s + together, len(slices)))
              for s in range(0, len(slices), together) for o in range(0, outputs, width)]
    ends = [*(start for *_, start in slices), channels * geometry.taps]

    pairs, wanted = images * len(segments), -(-2 * threads // (len(blocks) * groups))
    enough = len(blocks) * groups >= 4 * threads or len(blocks) * groups % threads == 0
    parts = 1 if enough else max(1, min(pairs, wanted))
    edges = [pairs * i // parts for i in range(parts + 1)]
    itself = table([(0, 0, 0, 0, geometry.output_size[1])], 5)
    return _Plan(table(slices, 5), table(segments, 6), taps, itself, ranges, table(blocks, 4),
                 table([*pairwise(edges)], 2), depth, (max(ends[b[3]] - ends[b[2]] for b in blocks), odd_pitch(width)))


@jit
def _multiply(team, plan, grad, x, all_taps, step, parts, scratch, result):
    """Fill result (G, O, (channel, tap)).  Threads share its blocks, or the pixels of each block.

    parts    (., depth, width) sums for a block: one for each share of the pixels, where there are several; else one for
             each thread
    """
    blocks = len(result) * len(plan.blocks)
    share(team, blocks * len(plan.shares), _add_products, (plan, grad, x, all_taps, step, parts, scratch, result))
    if len(plan.shares) > 1:
        share(team, blocks, _add_shares, (plan, parts, scratch, result))


@jit
def _add_shares(item, member, plan, parts, scratch, result):
    """One block from the sums over the pixels of all shares."""
    first = item * len(plan.shares)
    _write(parts[first:first + len(plan.shares)], plan, item, scratch.square[member], result)


@jit
def _add_products(item, member, plan, grad, x, all_taps, step, parts, scratch, result):
    """total[(channel, tap), o] = the sum over the pixels of a share, for one block."""
    block, pairs = item // len(plan.shares), plan.shares[item % len(plan.shares)]
    alone, g = len(plan.shares) == 1, block // len(plan.blocks)
    total = parts[member if alone else item]
    slices, segments, taps, ranges, groups = plan.slices, plan.segments, plan.taps, plan.ranges, len(result)
    b, runs, order, lines, pixels, tile = (scratch.b[member], scratch.runs[member], scratch.order[member],
                                           scratch.lines[member], scratch.pixels[member], scratch.tile[member])
    first_output, last_output, first, last = _limits(plan, block)
    outputs, channels, width = grad.shape[1] // groups, x.shape[1] // groups, last_output - first_output
    none = np.int64(0)                               # no literal, for which kernels would be compiled anew
    for k in range(len(total)):
        for j in range(0, width, LANES):
            store(total, (k, j), splat(0))
    for pair in range(pairs[0], pairs[1]):
        n, i = pair // len(segments), pair % len(segments)
        count, start, stop = segments[i, 2], ranges[segments[i, 5], 0, 0], ranges[segments[i, 5], 0, 1]
        j = 0
        while j < width:
            columns = tile_columns(width - j) * LANES
            for v in range(j, j + columns, LANES):
                channels_now = g * outputs + first_output + v, g * outputs + min(first_output + v + LANES, last_output)
                _turn(grad[n], channels_now, plan.itself, segments, i, runs, lines, pixels, j * count + v - j, columns)
            j += columns
        for s in range(first, last):
            t0, t1 = start, stop
            while t0 < t1 and taps[t0, 0] < slices[s, 2]:
                t0 += 1
            while t0 < t1 and taps[t1 - 1, 0] >= slices[s, 3]:
                t1 -= 1
            part, inside = (g * channels + slices[s, 0], g * channels + slices[s, 1]), (slices[s, 0], slices[s, 1])
            number_pairs(inside, taps, t0, t1, all_taps, slices[first, 4], order)
            if _sees_itself(x, grad, taps, t0, t1, step) and (part[1] - part[0]) % ROWS == 0:
                lines_of_x = x[n].reshape((x.shape[1], x.shape[3]))
                multiply_transposed(lines_of_x, part[0], segments[i, 4], part[1] - part[0], order, count, pixels, width,
                                    total, tile)
                continue
            depth = pack_pixels(x[n], part, taps, t0, t1, step, segments, i, runs, b)
            for k in range(depth, (depth + ROWS - 1) // ROWS * ROWS):
                for j in range(0, count, LANES):
                    store(b, (k, j), splat(0))
            multiply_transposed(b, none, none, depth, order, count, pixels, width, total, tile)
    if alone:
        _write(parts[member:member + 1], plan, block, scratch.square[member], result)


@jit
def _sees_itself(x, grad, taps, start, stop, step):
    """Whether pixel q of the only row sees x at q and nothing else: what is to be packed lies in x as it should."""
    return (x.shape[2] == 1 == grad.shape[2] and stop == start + 1 and taps[start, 1] == 0 and taps[start, 2] == 0
            and step[1] == 1 and taps[start, 4] >= grad.shape[3])


@jit
def _turn(grad, channels, itself, segments, s, runs, lines, pixels, place, step):
    """pixels[place + j·step + v] = grad[channels[0] + v] at pixel j of a segment; zeros where channels are missing.

    Up to LANES - 1 pixels too many are written.
    """
    width, count, p, q = segments[s, 1], segments[s, 2], segments[s, 3], segments[s, 4]
    none, one = np.int64(0), np.int64(1)             # not literals, for which kernels would be compiled anew
    rows, plane = channels[1] - channels[0], grad.shape[1] * grad.shape[2]
    start = channels[0] * plane + p * width + q
    if width == grad.shape[2] and rows == LANES and start + (LANES - 1) * plane + count + LANES <= grad.size:
        for j in range(0, count, LANES):                                 # where they are, they lie side by side
            transpose_square(grad, (0, 0, start + j), plane, pixels, place + j * step, step)
        return
    pack_pixels(grad, channels, itself, none, one, (one, one), segments, s, runs, lines)
    for k in range(rows, LANES):
        for j in range(0, count, LANES):
            store(lines, (k, j), splat(0))
    for j in range(0, count, LANES):
        transpose_square(lines, (0, j), lines.shape[1], pixels, place + j * step, step)


@jit
def _limits(plan, block):
    """Outputs first, last; slices first, last.  Blocks are numbered group by group."""
    limits = plan.blocks[block % len(plan.blocks)]
    return limits[0], limits[1], limits[2], limits[3]


@jit
def _write(parts, plan, block, square, result):
    """result[group, o, (channel, tap)] = the sum of the parts, transposed."""
    first_output, last_output, first, last = _limits(plan, block)
    out = result[block // len(plan.blocks)]
    start, stop = plan.slices[first, 4], out.shape[1]
    if last < len(plan.slices):
        stop = plan.slices[last, 4]
    total = parts[0]
    for p in range(1, len(parts)):
        for k in range(stop - start):
            for o in range(0, last_output - first_output, LANES):
                store(total, (k, o), load(total, (k, o)) + load(parts, (p, k, o)))
    for o in range(0, last_output - first_output, LANES):
        outputs = min(LANES, last_output - first_output - o)
        for k in range(0, stop - start, LANES):
            depth = min(LANES, stop - start - k)
            if depth == LANES:
                transpose_square(total, (k, o), total.shape[1], square, (0, 0), LANES)
                for i in range(outputs):
                    store(out, (first_output + o + i, start + k), load(square, (i, 0)))
            else:
                for i in range(outputs):
                    for j in range(depth):
                        out[first_output + o + i, start + k + j] = total[k + j, o + i]
