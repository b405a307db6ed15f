"""Depthwise convolution: every channel has a kernel of its own, so a plane is read once and written once.

    y[c, p, q]  =  Σ  x[c, p·s - top + u·d, q·s - left + v·d] · w[c, u, v]     over u, v

A band of rows is copied between zeros, which stand for the padding, and each line of it dealt out in `s` runs: what one
tap meets from a vector of neighbours is then a vector of neighbours too, whatever stride and dilation.  The input
gradient is the same with source and result exchanged: the results are dealt out, and each run has taps of its own.
N batch, G groups of one channel, M results of each (O = G·M), H W height and width of x, P Q of y, K_h K_w of the
kernel.
"""

from functools import lru_cache

import numpy as np

from tinyseg.arithmetic import ConvGeometry
from tinyseg.jit import jit
from tinyseg.kernels.cpu import direct, workspace
from tinyseg.kernels.cpu.depthwise_axis import Axis, axis, ends, inside, transposed_axis
from tinyseg.kernels.cpu.team import share
from tinyseg.kernels.cpu.threads import team
from tinyseg.kernels.cpu.vector import (
    LANES,
    deinterleave,
    fma_rows,
    gather,
    interleave,
    load,
    load_part,
    load_rows,
    maximum,
    scatter,
    splat,
    store,
    store_part,
    store_rows,
    total,
    transpose_square,
)

__all__ = ["conv2d", "conv2d_input_grad", "conv2d_weight_grad"]

BLOCK = 8                                            # rows made at a time: as many sums as keep the multipliers busy
MET3, MET5 = BLOCK + 2, BLOCK + 4                    # lines that they meet with 3 and 5 taps below one another
FEW = 10                                             # rows of taps summed at a time: short sums keep their digits
BAND, LARGEST = 1 << 14, 1 << 20                     # numbers: 64 KB, which stay in the caches near by, and 4 MB
FAR = 64                                             # a stride from which on most lines of a band are never met


def conv2d(x: np.ndarray, weight: np.ndarray, geometry: ConvGeometry, bias: np.ndarray | None = None,
           relu: bool = False) -> np.ndarray:
    """x (N, G, H, W), weight (G·M, 1, K_h, K_w) -> (N, G·M, P, Q).  Threads share the planes of x."""
    if not _plain(weight, geometry):
        return _finished(direct.conv2d(x, weight, geometry), bias, relu)
    y = workspace.empty((len(x), len(weight), *geometry.output_size), x.dtype)
    _run(x, weight, y, _plan(geometry, False), bias, relu)
    return y


def conv2d_input_grad(grad: np.ndarray, weight: np.ndarray, geometry: ConvGeometry, bias: np.ndarray | None = None,
                      relu: bool = False) -> np.ndarray:
    """The transpose of `conv2d` in x.  grad (N, G·M, P, Q), weight (G·M, 1, K_h, K_w) -> (N, G, H, W)."""
    if not _plain(weight, geometry):
        return _finished(direct.conv2d_input_grad(grad, weight, geometry), bias, relu)
    x = workspace.empty((len(grad), geometry.groups, *geometry.input_size), grad.dtype)
    _run(grad, weight, x, _plan(geometry, True), bias, relu)
    return x


def conv2d_weight_grad(grad: np.ndarray, x: np.ndarray, geometry: ConvGeometry) -> np.ndarray:
    """The transpose of `conv2d` in the weight.  grad (N, G·M, P, Q), x (N, G, H, W) -> (G·M, 1, K_h, K_w)."""
    if x.shape[1] > geometry.groups or max(geometry.stride) > FAR:
        return direct.conv2d_weight_grad(grad, x, geometry)
    sums = np.zeros((grad.shape[1], 1, *geometry.kernel_size))
    rows, columns, *_ = _plan(geometry, False)
    threads, height = team(), _height(rows, columns, 1)
    _weight_grad(threads, threads.turns(grad.size + x.size), grad, x, sums, rows, columns, height,
                 _bands(threads, rows, columns, height, 1))
    if not np.isfinite(sums).all():                  # inf times the zeros around x is nan
        return direct.conv2d_weight_grad(grad, x, geometry)
    return sums.astype(x.dtype)


def _plain(weight: np.ndarray, geometry: ConvGeometry) -> bool:
    """Groups of one channel, no far stride; and finite, since zeros around the source would make nan of inf."""
    return weight.shape[1] == 1 and max(geometry.stride) <= FAR and bool(np.isfinite(weight).all())


def _finished(y: np.ndarray, bias: np.ndarray | None, relu: bool) -> np.ndarray:
    if bias is not None:
        y += bias[:, None, None]
    return np.maximum(y, 0, out=y) if relu else y


@lru_cache(maxsize=256)
def _plan(geometry: ConvGeometry, transposed: bool) -> tuple[Axis, Axis, np.ndarray, np.ndarray]:
    """Rows, columns, and with which of their taps a block of results meets the source."""
    rows, columns = ((transposed_axis if transposed else axis)(geometry, a) for a in (0, 1))
    return rows, columns, ends(rows, BLOCK), ends(columns, LANES)


def _run(source, weight, result, plan, bias, relu):
    bias = np.zeros(result.shape[1], np.float32) if bias is None else bias
    groups = min(source.shape[1], result.shape[1])
    rows, columns, *_ = plan
    threads, sources = team(), source.shape[1] // groups
    turns, height = threads.turns(source.size + result.size), _height(rows, columns, sources)
    bands = _bands(threads, rows, columns, height, sources)
    blocks = workspace.empty((threads.size, columns.runs, BLOCK, LANES))  # aligned: no two threads write to one line
    _correlate(threads, turns, source, weight, bias, result, *plan, groups, height, relu, bands, blocks)


def _height(rows: Axis, columns: Axis, sources: int) -> int:
    """Results in a band, of each run of rows; whole blocks.  A band overlaps the next by the reach of the kernel."""
    reach, pitch = rows.reach, columns.width * columns.deal * sources
    height = max(BAND // pitch - reach, min(reach, LARGEST // pitch - reach)) // rows.deal
    most = -(-rows.result // rows.runs)
    return max(1, -(-min(height, most) // BLOCK)) * BLOCK


def _bands(threads, rows, columns, height, sources):
    """Zeros, a band for each thread."""
    lines = (height - 1) * rows.deal + rows.reach + 1
    return workspace.zeros((threads.size, sources * lines, columns.deal * columns.width))


@jit
def _correlate(team, turns, source, weight, bias, result, rows, columns, row_ends, column_ends, groups, height, relu,
               bands, blocks):
    share(team, turns, _correlate_planes, (turns, source, weight, bias, result, rows, columns, row_ends, column_ends,
                                           groups, height, relu, bands, blocks))


@jit
def _correlate_planes(turn, member, turns, source, weight, bias, result, rows, columns, row_ends, column_ends, groups,
                      height, relu, bands, blocks):
    """Make the results of one of `turns` parts of the N·G planes."""
    S, R = source.shape[1] // groups, result.shape[1] // groups          # planes of each group: one of them is 1
    band, made, lines = bands[member], blocks[member], bands.shape[1] // S
    taps = rows.tap, rows.cell, columns.tap, columns.at
    whole = height * rows.runs >= rows.result        # then lines that are zero stay so
    planes = len(source) * groups
    for plane in range(turn * planes // turns, (turn + 1) * planes // turns):
        n, g = plane // groups, plane % groups
        for top in range(0, (rows.result + rows.runs - 1) // rows.runs, height):
            for k in range(S):
                _fill(band, k * lines, lines, source, n, g * S + k, top * rows.deal, rows.near, columns.near,
                      columns.deal, columns.width, not whole)
            for r in range(min(rows.runs, rows.result)):
                stop = min(top + height, (rows.result - r + rows.runs - 1) // rows.runs)
                for p in range(top, stop, BLOCK):
                    for o in range(g * R, g * R + R):
                        for q in range(column_ends.shape[1]):
                            for j in range(columns.runs):
                                sums = splat(bias[o])
                                sums = (sums, sums, sums, sums, sums, sums, sums, sums)
                                t1 = row_ends[r, p // BLOCK, 1]
                                for k in range(S):
                                    for t in range(row_ends[r, p // BLOCK, 0], t1, FEW):
                                        part = _sum_taps(band, k * lines + (p - top) * rows.deal, q * LANES, weight,
                                                         o if S == 1 else g * S + k, taps, rows.deal, t,
                                                         min(t + FEW, t1), column_ends[j, q, 0], column_ends[j, q, 1])
                                        sums = fma_rows(splat(1), part, sums)
                                store_rows(made, (j, 0, 0), LANES, sums)
                            _write(result, n, o, r + p * rows.runs, rows.runs, q * LANES * columns.runs, made, relu)


@jit(inline="always")
def _sum_taps(band, line, place, weight, o, taps, step, t0, t1, b0, b1):
    """What BLOCK rows of results, `step` lines apart, meet with taps t0 .. t1 - 1 of rows and b0 .. b1 - 1 of
    columns."""
    sums = splat(0)
    sums = (sums, sums, sums, sums, sums, sums, sums, sums)
    u, line_of, v, place_of = taps
    pitch = step * band.shape[1]
    t = t0
    while t < t1:
        together = (5 if t + 4 < t1 and line_of[t + 4] == line_of[t] + 4 * step else
                    3 if t + 2 < t1 and line_of[t + 2] == line_of[t] + 2 * step else 1)
        for b in range(b0, b1):
            at = line + line_of[t], place + place_of[b]
            if together == 5:                        # what one row met with a tap, the next meets with the tap before
                met = load_rows(band, at, pitch, MET5)
                sums = fma_rows(splat(weight[o, 0, u[t], v[b]]), met[:-4], sums)
                sums = fma_rows(splat(weight[o, 0, u[t + 1], v[b]]), met[1:-3], sums)
                sums = fma_rows(splat(weight[o, 0, u[t + 2], v[b]]), met[2:-2], sums)
                sums = fma_rows(splat(weight[o, 0, u[t + 3], v[b]]), met[3:-1], sums)
                sums = fma_rows(splat(weight[o, 0, u[t + 4], v[b]]), met[4:], sums)
            elif together == 3:
                met = load_rows(band, at, pitch, MET3)
                sums = fma_rows(splat(weight[o, 0, u[t], v[b]]), met[:-2], sums)
                sums = fma_rows(splat(weight[o, 0, u[t + 1], v[b]]), met[1:-1], sums)
                sums = fma_rows(splat(weight[o, 0, u[t + 2], v[b]]), met[2:], sums)
            else:
                sums = fma_rows(splat(weight[o, 0, u[t], v[b]]), load_rows(band, at, pitch, BLOCK), sums)
        t += together
    return sums


@jit
def _write(result, n, o, h, step, w, made, relu):
    """What was made (runs, BLOCK, LANES), dealt out in runs, to rows h, h + step, ... of result[n, o] from column w."""
    runs, H, W = len(made), result.shape[2], result.shape[3]
    floor = splat(0) if relu else splat(-np.inf)
    for k in range(min(BLOCK, (H - h + step - 1) // step)):
        if runs == 1:
            store_part(result, (n, o, h, w), maximum(floor, load(made, (0, k, 0))), W - w)
        elif runs == 2:
            even, odd = interleave((load(made, (0, k, 0)), load(made, (1, k, 0))))
            store_part(result, (n, o, h, w), maximum(floor, even), W - w)
            store_part(result, (n, o, h, w + LANES), maximum(floor, odd), W - w - LANES)
        elif runs % LANES == 0 and w + LANES * runs <= W and not relu:
            for j in range(0, runs, LANES):
                transpose_square(made, (j, k, 0), BLOCK * LANES, result, (n, o, h, w + j), runs)
        else:
            for j in range(runs):
                count = (W - w - j + runs - 1) // runs
                scatter(result, (n, o, h, w + j), runs, maximum(floor, load(made, (j, k, 0))), count)
        h += step


@jit
def _fill(band, first, lines, source, n, c, top, near_row, near, deal, width, zeros):
    """Lines first .. first + lines - 1 of the band become lines top .. of the padded source[n, c], dealt out.

    zeros    whether those outside the source may hold something else by now
    """
    H, W = source.shape[2:]
    for i in range(lines):
        h, line = top + i - near_row, first + i
        if not 0 <= h < H:
            for j in range(0, deal * width if zeros else 0, LANES):
                store(band, (line, j), splat(0))
        elif deal == 1:
            for w in range(0, W, LANES):
                store(band, (line, near + w), load_part(source, (n, c, h, w), W - w))
        elif deal == 2:
            even, odd = near % 2 * width + near // 2, (near + 1) % 2 * width + (near + 1) // 2
            for w in range(0, W, 2 * LANES):
                a, b = deinterleave((load_part(source, (n, c, h, w), W - w),
                                     load_part(source, (n, c, h, w + LANES), W - w - LANES)))
                store(band, (line, even + w // 2), a)
                store(band, (line, odd + w // 2), b)
        else:
            for r in range(min(deal, W)):
                run, count = (near + r) % deal * width + (near + r) // deal, (W - r + deal - 1) // deal
                for k in range(0, count, LANES):
                    store(band, (line, run + k), gather(source, (n, c, h, r + k * deal), deal, count - k))


@jit
def _weight_grad(team, turns, grad, x, sums, rows, columns, height, bands):
    share(team, turns, _weight_grad_groups, (turns, grad, x, sums, rows, columns, height, bands))


@jit
def _weight_grad_groups(turn, member, turns, grad, x, sums, rows, columns, height, bands):
    """Fill sums (G·M, 1, K_h, K_w) of one of `turns` parts of the groups, three taps of a row at a time."""
    (_, O, P, Q), groups = grad.shape, x.shape[1]
    M, last_tap = O // groups, len(columns.tap) - 1
    band = bands[member]
    lines, line_of, place_of, step = len(band), rows.cell, columns.at, rows.deal
    for g in range(turn * groups // turns, (turn + 1) * groups // turns):
        for n in range(len(x)):
            for top in range(0, P, height):
                _fill(band, 0, lines, x, n, g, top * step, rows.near, columns.near, columns.deal, columns.width,
                      height < P)
                for t in range(len(rows.tap)):
                    p0, p1 = inside(rows, t)
                    p0, p1 = max(p0, top), min(p1, top + height)
                    for i in range(0, last_tap + 1 if p0 < p1 else 0, 3):
                        three = i, min(i + 1, last_tap), min(i + 2, last_tap)
                        a, b, c = place_of[three[0]], place_of[three[1]], place_of[three[2]]
                        for o in range(g * M, g * M + M):
                            part = splat(0), splat(0), splat(0)
                            for p in range(p0, p1):
                                line = (p - top) * step + line_of[t]
                                for q in range(0, Q, LANES):
                                    met = (load(band, (line, a + q)), load(band, (line, b + q)),
                                           load(band, (line, c + q)))
                                    part = fma_rows(load_part(grad, (n, o, p, q), Q - q), met, part)
                            for k in range(min(3, last_tap + 1 - i)):
                                sums[o, 0, rows.tap[t], columns.tap[i + k]] += total(part[k])
